"""`digitflow serve`: the champion over HTTP."""

from __future__ import annotations

import os
import socket
from typing import Annotated

from cyclopts import Parameter, validators

from digitflow.flows.cli.render import plain_console, print_text
from digitflow.flows.server.endpoint import ServiceError
from digitflow.tasks.prediction.model import Model

TOKEN = "DIGITFLOW_SERVE_TOKEN"  # noqa: S105 - the name of a variable
# More at once are told to come again (503): each holds a picture, and there are two cores.
_AT_ONCE = 64


def serve(
    *,
    model: Annotated[
        str, Parameter(help="Named model; not needed if only one has a champion.")
    ] = "",
    host: Annotated[
        str, Parameter(help=f"Address to listen on. Beyond 127.0.0.1 only with {TOKEN} set.")
    ] = "127.0.0.1",
    port: Annotated[
        int, Parameter(validator=validators.Number(gte=0, lte=65535), help="0 takes a free one.")
    ] = 8000,
) -> None:
    """Answer until Ctrl-C.

    Raises
    ------
    UnknownNameError
        If there is no such champion.
    ServiceError
        If it may not, or cannot, listen there.
    """
    token = os.environ.get(TOKEN, "")
    champion = Model.champion(model).version
    try:
        listener = socket.create_server((host, port))
    except OSError as error:
        reason = error.strerror or str(error)
        message = f"expected to listen on {host}, port {port}, but: {reason}; try another --port"
        raise ServiceError(message) from error
    with listener:
        address, port = listener.getsockname()[:2]
        if not token and not address.startswith("127."):
            message = (
                f"expected {TOKEN} in the environment to listen on {host}, where others can ask: "
                'a secret of your own, such as $(python -c "import secrets; '
                'print(secrets.token_urlsafe())")'
            )
            raise ServiceError(message)
        import uvicorn  # with the application a second of imports

        from digitflow.flows.serve import application

        console = plain_console()
        print_text(console, f"serving http://{address}:{port}", "bold")
        print_text(
            console,
            f"version {champion.version} of {champion.dataset}, and each champion after it, until "
            "Ctrl-C. Draw on that page, or:",
        )
        print_text(
            console,
            f"  curl --data-binary @picture.png -H 'Content-Type: image/png' "
            f"http://{address}:{port}/predict",
        )
        app = application(model, token=token)
        config = uvicorn.Config(
            app, log_level="warning", limit_concurrency=_AT_ONCE, timeout_keep_alive=5
        )
        try:
            uvicorn.Server(config).run(sockets=[listener])
        except KeyboardInterrupt:
            print_text(console, "stopped")
