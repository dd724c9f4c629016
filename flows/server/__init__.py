"""Prefect's server, pool, deployments and workers: what `digitflow up` and its kin look after."""

POOL = "digitflow"
"""The work pool that the deployments of this project run in."""


class ServiceError(Exception):
    """A server, a worker or a deployment is not as it has to be; says what to do."""
