"""What keeps `digitflow up`, `down` and `deploy` from doing their work."""


class ServiceError(Exception):
    """A server, a worker or a deployment is not as it has to be; says what to do."""
