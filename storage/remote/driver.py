"""The driver behind a store's URL, and what is said when it does not work."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from digitflow.storage.errors import SharedStoreError
from digitflow.storage.remote.location import BUCKET_PROTOCOLS, S3_PROTOCOLS, cache_folder

# Bounds the memory of a transfer: four parts of 16 MiB at once instead of s3fs's ten of 50.
PART_BYTES = 16 * 2**20
_S3_OPTIONS = {"default_block_size": PART_BYTES, "max_concurrency": 4}


def shown(url: str) -> str:
    """Return a URL as people may see it, without a password."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def open_driver(url: str) -> tuple[Any, str]:
    """Return the file system of a URL, and the path of the store in it.

    Credentials and endpoints are those of the driver's own configuration.

    Raises
    ------
    SharedStoreError
        If the driver is not installed, or there is none for such a URL.
    """
    from fsspec.core import url_to_fs

    is_s3 = _protocol(url) in S3_PROTOCOLS
    options: dict[str, Any] = _S3_OPTIONS if is_s3 else {}
    if _protocol(url) in BUCKET_PROTOCOLS:
        # What another machine has just written must be seen.
        options = {**options, "use_listings_cache": False}
    try:
        system, root = url_to_fs(url, skip_instance_cache=True, **options)
    except ImportError as error:
        advice = "pip install 'digitflow[s3]'" if is_s3 else "install it"
        message = (
            f"the shared store {shown(url)} needs a driver that is missing: {advice} ({error})"
        )
        raise SharedStoreError(message) from error
    except ValueError as error:
        message = (
            f"DIGITFLOW_STORE={shown(url)}: expected a path or a URL that fsspec knows, such as "
            f"s3://bucket/prefix ({error})"
        )
        raise SharedStoreError(message) from error
    return system, str(root).rstrip("/")


def unusable(url: str, problem: str) -> SharedStoreError:
    """Return the error that names a store, what is wrong, what to check, and the way out."""
    if _protocol(url) in S3_PROTOCOLS:
        check = (
            "the bucket's name, the network, AWS_ENDPOINT_URL, and the credentials "
            "(AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE)"
        )
    else:
        check = f"the address, the network, and how the driver of {_protocol(url)}:// is set up"
    message = (
        f"the shared store {shown(url)} cannot be used: {problem}. Check {check}. To work "
        f"meanwhile with what this machine has, set DIGITFLOW_STORE={cache_folder(url)}"
    )
    return SharedStoreError(message)


def _protocol(url: str) -> str:
    return url.partition("://")[0]
