"""What can go wrong at a mirror, and how to say it in a few words."""

import http.client
import socket
import ssl
from collections.abc import Iterator
from http import HTTPStatus

import requests
import urllib3.exceptions

# What the network stack raises; requests' own exceptions are OSErrors too, urllib3's are not.
NETWORK_ERRORS = (OSError, urllib3.exceptions.HTTPError)


class MirrorError(Exception):
    """A mirror did not give what it was asked for.

    Attributes
    ----------
    reason : str
        What was the matter, in one line.
    permanent : bool
        True where asking again cannot help.
    """

    def __init__(self, reason: str, *, permanent: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.permanent = permanent


class RefusedError(MirrorError):
    """It answered, and the answer was no."""


class BusyError(RefusedError):
    """It asked to be left alone for some `seconds`."""

    def __init__(self, reason: str, seconds: float) -> None:
        super().__init__(reason)
        self.seconds = seconds


class TooSlowError(MirrorError):
    """It sends, but so slowly that it is left: what has arrived may be good."""


class OutOfTimeError(MirrorError):
    """The time for all mirrors together has passed."""


class InterruptedTransferError(MirrorError):
    """The connection failed, stalled or ended early: what has arrived may be good."""


class StartOverError(MirrorError):
    """What has arrived cannot be continued here: ask again from zero."""


class WrongBytesError(MirrorError):
    """It serves something else under this name."""


def status_text(status: int) -> str:
    """Return a status code with its standard phrase, ``404 Not Found``.

    The server's own phrase is left out: it is foreign text on its way to a terminal.
    """
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"status {status}"


def explain(error: BaseException, timeout: tuple[float, float]) -> str:
    """Say in a few words why a request failed.

    Parameters
    ----------
    error : BaseException
        One of `NETWORK_ERRORS`. The network stack wraps the cause several layers deep.
    timeout : (float, float)
        Seconds that were allowed for the connection and for each next piece of data.
    """
    causes = list(_causes(error))
    reason = next((text for each in causes if (text := _phrase(each, timeout))), None)
    if reason is None:
        innermost = causes[-1]
        reason = f"{type(innermost).__name__}: {innermost}".splitlines()[0]
    if any(isinstance(each, urllib3.exceptions.ProxyError) for each in causes):
        return f"through the proxy: {reason}"
    return reason


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield `error` and what it wraps, outermost first, each once."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        each = waiting.pop(0)
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        wrapped = (getattr(each, "reason", None), *each.args, each.__cause__, each.__context__)
        waiting.extend(inner for inner in wrapped if isinstance(inner, BaseException))


def _phrase(error: BaseException, timeout: tuple[float, float]) -> str | None:
    match error:
        case socket.gaierror() | urllib3.exceptions.NameResolutionError():
            return "no network: name not resolved"
        case ssl.SSLError():
            return f"TLS failed: {getattr(error, 'verify_message', None) or error.reason}"
        case requests.ConnectTimeout():
            return f"no connection within {timeout[0]:g} s"
        case TimeoutError() | requests.ReadTimeout() | urllib3.exceptions.ReadTimeoutError():
            return f"no data for {timeout[1]:g} s"
        case ConnectionRefusedError():
            return "connection refused"
        case (
            ConnectionResetError()
            | BrokenPipeError()
            | urllib3.exceptions.IncompleteRead()
            | urllib3.exceptions.InvalidChunkLength()
            | http.client.IncompleteRead()
        ):
            return "connection closed early"
        case http.client.HTTPException():
            return "what answers there does not speak HTTP"
        case requests.exceptions.InvalidProxyURL() | urllib3.exceptions.ProxySchemeUnknown():
            return "the proxy is not a valid URL (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY)"
        case requests.exceptions.InvalidSchema():
            return "the proxy is of a kind that is not known here (HTTPS_PROXY, ALL_PROXY)"
        case requests.exceptions.InvalidURL() | requests.exceptions.MissingSchema():
            return "not a valid URL"
        case OSError() if error.strerror and not isinstance(error, requests.RequestException):
            return f"no network: {error.strerror.lower()}"
        case ValueError() if not isinstance(error, OSError):  # of taking a URL apart
            return "not a valid URL"
    return None
