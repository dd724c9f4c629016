"""The work pool that the deployments of this project run in."""

POOL = "digitflow"
