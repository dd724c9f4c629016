"""Why a model cannot be written; apart, so that the command line need not import NumPy for it."""


class ExportError(ValueError):
    """A model cannot be written as asked for."""
