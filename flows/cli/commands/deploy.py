"""`digitflow deploy`: pool and deployments, on a server that runs already."""

from __future__ import annotations

import os

from rich.console import Console

from digitflow.flows.cli.commands.scheduled import as_table, wait_for_schedule
from digitflow.flows.server import ServiceError
from digitflow.flows.server.endpoint import answers, server_url
from digitflow.flows.server.pidfile import Pidfile
from digitflow.flows.server.prefect_setup import prepare_environment


def deploy(console: Console) -> None:
    """Bring pool and deployments to the server that ``PREFECT_API_URL`` names.

    Raises
    ------
    ServiceError
        If no server is named, or it does not answer, or `prefect deploy` fails.
    """
    from digitflow.flows.server.deploy import deploy_all, project_folder, service_environment

    project = project_folder()
    named = server_url()
    if named is None:
        message = (
            "expected the URL of a Prefect server in PREFECT_API_URL, found none. Name one, or "
            "bring everything up on this machine with: digitflow up"
        )
        raise ServiceError(message)
    api_url = named.rstrip("/")
    if not answers(api_url):
        message = f"PREFECT_API_URL names the server {api_url}, which does not answer"
        raise ServiceError(message)
    environment = service_environment(api_url, project)
    os.environ.update(environment)
    prepare_environment(verbose=False)
    with console.status("deploying"):
        deploy_all(project, environment, Pidfile().folder / "deploy.log")
        scheduled = wait_for_schedule()
    console.print(as_table(scheduled))
    console.print(f"on {api_url}, from {project}", style="dim", soft_wrap=True, markup=False)
