"""Calls to a gateway: a blocking client for scripts and trackers, and an asynchronous one for pipes.

Both start the gateway if it does not run. A call that could not be delivered, or that only reads, is tried once more on a
new gateway; any other that got no answer is not, because it may have been charged.
"""

import http.client
import json
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol
from urllib.parse import urlencode, urlsplit

from openwebui_token_tracking.errors import GatewayGoneError, LocalError

# Seconds for one call. Longer than any wait that the gateway grants by itself.
TIMEOUT = 60.0

Query = Mapping[str, str]


@dataclass(frozen=True)
class Endpoint:
    """Where a gateway listens, and the key for it. ``socket_path``: of its Unix socket, if it has one."""

    url: str
    key: str
    socket_path: str | None = None

    def __repr__(self) -> str:
        return f"Endpoint({self.socket_path or self.url})"


class Gateway(Protocol):
    """Something that listens, or can be started."""

    @property
    def is_private(self) -> bool:
        """Whether it is this process's own, which takes model servers and limits from requests."""

    def endpoint(self) -> Endpoint:
        """Where it listens. Starts it if need be, which blocks until it is ready.

        :raises GatewayGoneError: if it can't be started, with what to do
        """

    async def ready(self) -> Endpoint:
        """The same without blocking the event loop."""

    def lost(self, endpoint: Endpoint) -> None:
        """Says that nothing listens there. Blocks shortly, until its process has ended."""


def path_of(path: str, query: Query | None) -> str:
    """A path with its query."""
    return f"{path}?{urlencode(query)}" if query else path


def encoded(value: object) -> str:
    """JSON in which a :class:`~decimal.Decimal` is a number with all its digits, never a float."""
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{json.dumps(str(key))}:{encoded(part)}" for key, part in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(encoded(part) for part in value) + "]"
    return json.dumps(value)


def decoded(status: int, content: bytes) -> Any:
    """An answer's JSON with exact numbers; ``None`` if it has none.

    :raises LocalError: if it is an error
    """
    if status >= 400:
        raise refusal(status, content)
    if not content:
        return None
    try:
        return json.loads(content, parse_float=Decimal)
    except ValueError:
        raise LocalError("The gateway's answer is no JSON: OWUI_TRACKING_URL may name something else.", 502) from None


def refusal(status: int, content: bytes) -> LocalError:
    """The error for an error's body, in OpenAI's form."""
    try:
        error = json.loads(content)["error"]
        return LocalError(str(error["message"]), status, error.get("code"))
    except (ValueError, LookupError, TypeError, AttributeError):
        return LocalError(f"The gateway answered with status {status}.", status)


def gone() -> GatewayGoneError:
    """There was no answer to a request that was delivered."""
    return GatewayGoneError("The process that tracks credits ended before it could answer. Please try again.")


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class LocalClient:
    """The blocking client: local routes of a gateway, as methods of Python objects call them."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def request(self, method: str, path: str, query: Query | None = None, body: object = None) -> Any:
        """The answer's JSON, with :class:`~decimal.Decimal` for fractions; ``None`` if it has none.

        :param body: any JSON value; decimals become exact numbers
        :raises LocalError: if the gateway refuses, or can't be reached
        """
        endpoint = self._gateway.endpoint()
        try:
            return _asked(endpoint, method, path_of(path, query), body)
        except (_Undelivered, GatewayGoneError) as error:
            if not isinstance(error, _Undelivered) and method != "GET":
                raise
            # The gateway has just ended, and this was not delivered; or it only reads.
            self._gateway.lost(endpoint)
            endpoint = self._gateway.endpoint()
        try:
            return _asked(endpoint, method, path_of(path, query), body)
        except _Undelivered as error:
            raise unreachable(endpoint, error.reason) from None


class _Undelivered(Exception):
    """Nothing listens there."""

    def __init__(self, reason: OSError) -> None:
        super().__init__(str(reason))
        self.reason = reason


def _asked(endpoint: Endpoint, method: str, path: str, body: object) -> Any:
    try:
        connection = _connected(endpoint)
    except OSError as error:
        raise _Undelivered(error) from None
    try:
        headers = {"Authorization": f"Bearer {endpoint.key}"}
        content = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            content = encoded(body).encode()
        connection.request(method, urlsplit(endpoint.url).path + path, content, headers)
        answer = connection.getresponse()
        return decoded(answer.status, answer.read())
    except TimeoutError:
        raise LocalError(f"The gateway did not answer within {TIMEOUT:.0f} seconds.", 504, "timeout") from None
    except (OSError, http.client.HTTPException):
        raise gone() from None
    finally:
        connection.close()


def unreachable(endpoint: Endpoint, error: OSError) -> GatewayGoneError:
    """Nothing listens where a gateway should."""
    where = endpoint.socket_path or endpoint.url
    return GatewayGoneError(
        f"The gateway that tracks credits can't be reached at {where} ({error.strerror or error}).",
        "The service that tracks credits can't be reached, so the request was not sent. Please try again; if it goes on, "
        "tell your administrator.",
    )


def _connected(endpoint: Endpoint) -> http.client.HTTPConnection:
    connection: http.client.HTTPConnection
    address = urlsplit(endpoint.url)
    if endpoint.socket_path is not None:
        connection = _UnixConnection(endpoint.socket_path, TIMEOUT)
    elif address.scheme == "https":
        context = ssl.create_default_context()
        connection = http.client.HTTPSConnection(address.netloc, timeout=TIMEOUT, context=context)
    else:
        connection = http.client.HTTPConnection(address.netloc, timeout=TIMEOUT)
    connection.connect()
    return connection
