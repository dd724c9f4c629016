"""Objects of S3, Google Cloud Storage, Azure, or of this process's memory, by way of obstore."""

from __future__ import annotations

import configparser
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import obstore
from obstore.store import MemoryStore, from_url

from digitflow.storage.backends.base import MAX_DOCUMENT_BYTES, Backend, Entry, TooLargeError
from digitflow.storage.backends.base import check_name as checked

# Bounds the memory of a transfer: so many parts of this size at once.
PART_BYTES = 16 * 2**20
_PARTS_AT_ONCE = 4
_ATTEMPTS = 5
_A_PAGE = 1_000  # objects that one request lists
# A transfer as a whole has a deadline that grows with its size, see `remote.py`; obstore's own
# would be the same for every size.
_CLIENT = {"connect_timeout": "5s", "timeout": "7days"}

# Where a container finds the role that it has.
_ROLES = (
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)


class Bucket(Backend):
    """Objects below a prefix. A put shows the whole object or nothing; there is no rename.

    Parameters
    ----------
    url
        Such as ``s3://bucket/prefix``.
    endpoint
        Where S3 is, if it is not Amazon's.
    """

    def __init__(self, url: str, endpoint: str = "") -> None:
        self._store: Any = _open(url, endpoint)

    def list(self, folder: str, depth: int = 1, after: str = "") -> list[Entry]:
        """Return what lies there, in one request for each thousand objects below the folder."""
        return sorted(self._listed(folder, depth, after=after), key=lambda entry: entry.name)

    def some(self, folder: str, depth: int, most: int) -> Sequence[Entry]:
        """Return so many of what lies there; the others are not asked for."""
        return [*islice(self._listed(folder, depth, min(most, _A_PAGE)), most)]

    def _listed(
        self, folder: str, depth: int, at_once: int = _A_PAGE, after: str = ""
    ) -> Iterator[Entry]:
        slashes = folder.count("/") + depth
        for chunk in self._store.list(checked(folder), offset=after or None, chunk_size=at_once):
            yield from (_entry(each) for each in chunk if each["path"].count("/") == slashes)

    def stat(self, name: str) -> Entry | None:
        """Return what is known of an object, in one request."""
        try:
            return _entry(self._store.head(checked(name)))
        except FileNotFoundError:
            return None

    def fetch(self, name: str, limit: int = MAX_DOCUMENT_BYTES) -> tuple[Entry, bytes]:
        """Return a small object, in one request; of a larger one the bytes are not read."""
        found = self._store.get(checked(name))
        entry = _entry(found.meta)
        if entry.size > limit:
            message = f"it is larger than {limit} bytes: it has {entry.size}"
            raise TooLargeError(message)
        return entry, bytes(found.bytes())

    def write(self, name: str, data: bytes) -> None:
        """Put an object."""
        self._store.put(checked(name), data, use_multipart=False)

    def create(self, name: str, data: bytes) -> bool:
        """Put an object unless there is one: the store itself refuses the second."""
        try:
            self._store.put(checked(name), data, mode="create", use_multipart=False)
        except obstore.exceptions.AlreadyExistsError:
            return False
        return True

    def delete(self, name: str) -> None:
        """Delete an object, if there is one."""
        try:
            self._store.delete(checked(name))
        except FileNotFoundError:
            return

    def upload(self, file: Path, name: str) -> None:
        """Put a file, in parts if it is large; the last of them makes it visible."""
        self._store.put(checked(name), file, chunk_size=PART_BYTES, max_concurrency=_PARTS_AT_ONCE)

    def download(self, name: str, file: Path, size: int) -> None:
        """Copy an object to a file, a piece at a time."""
        with file.open("wb") as target:
            for piece in self._store.get(checked(name)).stream(PART_BYTES):
                target.write(piece)

    def digest(self, name: str) -> str:
        """Return the SHA-256 of an object, which is not kept."""
        digest = hashlib.sha256()
        for piece in self._store.get(checked(name)).stream(PART_BYTES):
            digest.update(piece)
        return digest.hexdigest()


def _entry(found: Mapping[str, Any]) -> Entry:
    return Entry(found["path"], found["size"], found["last_modified"].timestamp())


def _open(url: str, endpoint: str) -> Any:
    scheme = urlsplit(url).scheme
    if scheme == "memory":
        return MemoryStore()
    attempts = int(os.environ.get("AWS_MAX_ATTEMPTS") or _ATTEMPTS)
    options: dict[str, Any] = {
        "client_options": dict(_CLIENT),
        "retry_config": {"max_retries": attempts - 1, "retry_timeout": timedelta(seconds=60)},
    }
    if scheme in ("s3", "s3a"):
        config = _s3_config(endpoint)
        if config.get("endpoint", "").startswith("http://"):
            options["client_options"]["allow_http"] = True
        options["config"] = config
    return from_url(url, **options)


def _s3_config(endpoint: str) -> dict[str, str]:
    """Return what obstore does not read in the environment by itself.

    Raises
    ------
    ValueError
        If there are no credentials, or the profile that is named has none.
    """
    config: dict[str, str] = {}
    has_keys = "AWS_ACCESS_KEY_ID" in os.environ
    found = {} if has_keys else _profile()
    wanted = ("access_key_id", "secret_access_key", "session_token", "region")
    config.update({name: found[name] for name in wanted if name in found})
    if where := endpoint or found.get("endpoint_url", ""):
        config["endpoint"] = where
    is_told_not_to_ask = os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true"
    if is_told_not_to_ask and not (has_keys or found or any(map(os.environ.get, _ROLES))):
        message = "expected credentials for S3, found none"
        raise ValueError(message)
    return config


def _profile() -> dict[str, str]:
    """Return what AWS's own two files say of `AWS_PROFILE`, or of the profile ``default``."""
    named = os.environ.get("AWS_PROFILE")
    name = named or "default"
    places = {
        "AWS_CONFIG_FILE": ("~/.aws/config", f"profile {name}" if named else name),
        "AWS_SHARED_CREDENTIALS_FILE": ("~/.aws/credentials", name),
    }
    found: dict[str, str] = {}
    for variable, (default, section) in places.items():
        file = configparser.ConfigParser(interpolation=None)
        file.read(Path(os.environ.get(variable) or default).expanduser(), encoding="utf-8")
        if file.has_section(section):
            found.update(file[section])
    if named and "aws_access_key_id" not in found:
        message = (
            f"expected an access key in the profile {name} (AWS_PROFILE), found none. Profiles "
            "that log in or take a role are not followed: set the environment by "
            f'eval "$(aws configure export-credentials --profile {name} --format env)"'
        )
        raise ValueError(message)
    return {each.removeprefix("aws_"): value for each, value in found.items()}
