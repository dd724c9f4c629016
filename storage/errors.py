"""What can be wrong with stored bytes. Each message says where and what to do next."""

from __future__ import annotations


class StorageError(Exception):
    """Base of every error that the store raises on purpose."""


class ObjectMissingError(StorageError):
    """An object that a record names is not in the store."""


class ObjectDamagedError(StorageError):
    """An object's bytes are not those that its name promises."""


class RecordDamagedError(StorageError):
    """A record cannot be read, or its contents do not match its own digest."""


class ArtifactError(StorageError):
    """A value does not fit its declared format, or a file is not of that format."""


class UnknownNameError(StorageError):
    """A name that was asked for is not in the store, or fits more than one thing."""


class MovedMeanwhileError(StorageError):
    """An alias stands elsewhere than where a decision about it found it."""


class LedgerError(StorageError):
    """The ledger of models cannot be written, or what it says cannot be relied on."""

    permanent = True


class VerdictError(LedgerError):
    """A person's verdict, a hold or a quarantine, stands against what is to be done."""


class AnsweredError(VerdictError):
    """What a person was asked needs no answer any more: somebody was first, or it is too late."""


class RootUnreadableError(StorageError):
    """What says which objects are needed cannot be read, so none may be deleted."""

    permanent = True


class CodeChangedError(StorageError):
    """The code of a stage changed while it ran, so nobody can say what its outputs are made of."""

    permanent = True


class StorageFullError(StorageError):
    """There is no room for what is to be written. Nothing half-written is left behind."""

    permanent = True  # trying again in a second cannot help


class StoreUnusableError(StorageError):
    """The store cannot be written: read-only, not ours, or no folder at all."""

    permanent = True


class SharedStoreError(StorageError):
    """The shared store cannot be reached, or does not let us read or write."""
