"""A real S3 over HTTP in this process: moto's server, with requests counted and disturbed."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import boto3  # type: ignore[import-untyped]
from botocore.config import Config  # type: ignore[import-untyped]
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

Environment = dict[str, Any]
Disturb = Callable[["Request"], "Refusal | None"]

_PIECE = 64 * 1024

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "tests",
    "AWS_SECRET_ACCESS_KEY": "tests",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    # A store that is down is said to be down at once.
    "AWS_MAX_ATTEMPTS": "1",
}


@dataclass(frozen=True)
class Refusal:
    """An answer in the place of the real one."""

    status: str
    code: str

    @property
    def body(self) -> bytes:
        """As S3 words it."""
        text = f"<Error><Code>{self.code}</Code><Message>refused by the test</Message></Error>"
        return text.encode()


@dataclass
class Request:
    """One request, as it arrives."""

    method: str
    path: str
    query: str
    environment: Environment = field(repr=False)

    @property
    def writes(self) -> bool:
        """Whether it would change what can be seen."""
        return self.method in ("PUT", "POST", "DELETE")


@dataclass
class S3:
    """The running server.

    Attributes
    ----------
    endpoint
        Its URL.
    requests
        What was asked, in order.
    before
        Called with each request before it is handled; may wait, or refuse it.
    after
        Called once it has been handled and before the answer is sent.
    sent
        Bytes of answers that were taken from the server.
    """

    endpoint: str
    requests: list[Request] = field(default_factory=list)
    before: Disturb | None = None
    after: Callable[["Request"], None] | None = None
    sent: int = 0

    def sending(self, body: bytes) -> Iterator[bytes]:
        """Yield an answer, and count what is taken of it."""
        for start in range(0, len(body), _PIECE):
            yield body[start : start + _PIECE]
            self.sent += len(body[start : start + _PIECE])

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs in its environment."""
        return {**CREDENTIALS, "AWS_ENDPOINT_URL": self.endpoint}

    def client(self) -> Any:
        """Return a client that looks at the bucket from outside, uncounted."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id="tests",
            aws_secret_access_key="tests",
            region_name="us-east-1",
            config=Config(user_agent_extra="outside"),
        )

    def keys(self, bucket: str) -> dict[str, bytes]:
        """Return every visible object of a bucket with its bytes."""
        client = self.client()
        found = client.list_objects_v2(Bucket=bucket).get("Contents", [])
        return {
            each["Key"]: client.get_object(Bucket=bucket, Key=each["Key"])["Body"].read()
            for each in found
        }

    @contextmanager
    def counting(self) -> Iterator[list[Request]]:
        """Yield a list that holds the requests made within the context, once it has ended."""
        start = len(self.requests)
        counted: list[Request] = []
        yield counted
        counted += self.requests[start:]


class _Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:
        """Write nothing."""


@contextmanager
def running_s3() -> Iterator[S3]:
    """Run a server while the context lasts."""
    backend = DomainDispatcherApplication(create_backend_app)
    found: list[S3] = []
    # moto looks whether there is an object and puts its own in two steps, and closes one that is
    # being read where it is put once more, as no S3 does.
    one_at_a_time = threading.Lock()

    def application(environment: Environment, start: Any) -> Iterable[bytes]:
        if "outside" in environment.get("HTTP_USER_AGENT", ""):
            return backend(environment, start)  # type: ignore[no-any-return]
        s3 = found[0]
        request = Request(
            environment["REQUEST_METHOD"],
            environment["PATH_INFO"],
            environment["QUERY_STRING"],
            environment,
        )
        s3.requests.append(request)
        refusal = s3.before(request) if s3.before is not None else None
        if refusal is not None:
            start(refusal.status, [("Content-Type", "application/xml")])
            return [refusal.body]
        with one_at_a_time:
            body = list(backend(environment, start))
        if s3.after is not None:
            s3.after(request)
        return s3.sending(b"".join(body))

    server: BaseWSGIServer = make_server(
        "127.0.0.1", 0, application, threaded=True, request_handler=_Quiet
    )
    found.append(S3(f"http://127.0.0.1:{server.server_port}"))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield found[0]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
