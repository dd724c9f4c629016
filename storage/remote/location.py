"""Where this machine keeps copies of what lies behind a store's URL."""

from __future__ import annotations

import os
from pathlib import Path

from digitflow.storage.digests import digest_bytes, short

S3_PROTOCOLS = frozenset({"s3", "s3a"})
# A put makes the whole object visible or nothing; there is no rename that does.
BUCKET_PROTOCOLS = S3_PROTOCOLS | {"gs", "gcs", "abfs", "abfss", "az"}
# Where S3's own client looks for another endpoint than Amazon's.
_S3_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "FSSPEC_S3_ENDPOINT_URL")


def cache_folder(url: str) -> Path:
    """Return the folder of this machine that keeps copies of what lies behind a URL.

    One folder for each URL and endpoint below `DIGITFLOW_CACHE`, or ``~/.digitflow-cache``.
    """
    parent = Path(os.environ.get("DIGITFLOW_CACHE") or "~/.digitflow-cache").expanduser()
    return parent.absolute() / short(digest_bytes(identity(url).encode()))


def identity(url: str) -> str:
    """Return what tells two shared stores apart: a bucket of another endpoint is another one."""
    url = url.rstrip("/")
    if url.partition("://")[0] not in S3_PROTOCOLS:
        return url
    return url + "\n" + next(filter(None, map(os.environ.get, _S3_ENDPOINTS)), "")
