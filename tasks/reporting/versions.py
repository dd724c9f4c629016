"""Versions of installed packages, to note what a result was made with."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def installed_version(package: str) -> str | None:
    """Return the version of an installed package, or None: digitflow runs from its source, too."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
