"""`digitflow serve`: the champion over HTTP."""

from __future__ import annotations

import os
import socket
from typing import Annotated

from cyclopts import Parameter, validators

from digitflow.flows.cli.render import plain_console, print_text
from digitflow.flows.server.endpoint import ServiceError
from digitflow.tasks.prediction.model import Model

LOOPBACK = "127.0.0.1"
TOKEN = "DIGITFLOW_SERVE_TOKEN"  # noqa: S105 - the name of a variable
_SECONDS_TO_END = 5


def serve(
    *,
    model: Annotated[
        str, Parameter(help="Named model; not needed if only one has a champion.")
    ] = "",
    host: Annotated[
        str, Parameter(help=f"Address to listen on. Beyond {LOOPBACK} only with {TOKEN} set.")
    ] = LOOPBACK,
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
    if not token.isascii() or " " in token:
        message = f"{TOKEN}: expected letters, digits and signs of ASCII, found others"
        raise ServiceError(message)
    served = Model.champion(model)
    champion = served.version
    # Another model's first champion must not leave open which one is meant.
    name = model or served.named
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        message = (
            f"expected to listen on {host}, port {port}, but: {reason}; try another --port, or "
            "--host 127.0.0.1"
        )
        raise ServiceError(message) from error
    with listener:
        address, port = listener.getsockname()[:2]
        if not token and address != LOOPBACK:
            message = (
                f"expected {TOKEN} in the environment to listen on {address}, beyond {LOOPBACK}: "
                'a secret of your own, such as $(python -c "import secrets; '
                'print(secrets.token_urlsafe())")'
            )
            raise ServiceError(message)
        import uvicorn  # with the application a second of imports

        from digitflow.flows.serve import Impatient, application

        console = plain_console()
        url = f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"
        print_text(console, f"serving {url}", "bold")
        print_text(
            console,
            f"version {champion.version} of {champion.dataset}, and each champion after it, until "
            "Ctrl-C. Draw on that page, or:",
        )
        print_text(
            console,
            f"  curl --data-binary @picture.png -H 'Content-Type: image/png' {url}/predict",
        )
        config = uvicorn.Config(
            application(name, token=token),
            http=Impatient,
            log_level="warning",
            timeout_keep_alive=5,
            timeout_graceful_shutdown=_SECONDS_TO_END,
        )
        try:
            uvicorn.Server(config).run(sockets=[listener])
        except KeyboardInterrupt:
            print_text(console, "stopped")
