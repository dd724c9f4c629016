"""What can be wrong with a picture."""


class PictureError(Exception):
    """A file that should hold pictures cannot be read as such. The message names it."""
