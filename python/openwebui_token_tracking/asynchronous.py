"""The asynchronous client. Loads aiohttp when it is first used."""

import asyncio
import io
import os
from collections.abc import AsyncGenerator, Mapping
from typing import TYPE_CHECKING, Any

from openwebui_token_tracking import threads
from openwebui_token_tracking.client import (
    TIMEOUT,
    Endpoint,
    Gateway,
    Query,
    decoded,
    encoded,
    gone,
    path_of,
    refusal,
    unreachable,
)
from openwebui_token_tracking.errors import GatewayGoneError, LocalError

if TYPE_CHECKING:
    from aiohttp import ClientConnectorError, ClientResponse, ClientSession, ClientTimeout

# The header with the gateway's id of a request.
REQUEST = "x-tracking-request"
# Seconds to connect to a gateway.
_CONNECT = 10.0

# For each event loop and endpoint a session, and the generator that closes it with its loop.
_sessions: dict[
    tuple[asyncio.AbstractEventLoop, Endpoint], tuple["ClientSession", AsyncGenerator["ClientSession", None]]
] = {}


async def _session(endpoint: Endpoint) -> "ClientSession":
    """The session of this event loop for that endpoint.

    It lives inside an asynchronous generator, because a loop that ends closes those: so a session ends with its loop.
    """
    key = (asyncio.get_running_loop(), endpoint)
    if key not in _sessions:
        await _tidy(key[0])
    known = _sessions.get(key)
    if known is not None and not known[0].closed:
        return known[0]
    # Nothing waits from here on, so no other task makes a second one.
    keeper = _kept(key)
    session = await anext(keeper)
    _sessions[key] = (session, keeper)
    return session


async def _kept(key: tuple[asyncio.AbstractEventLoop, Endpoint]) -> AsyncGenerator["ClientSession", None]:
    import aiohttp

    endpoint = key[1]
    # The gateway bounds what runs at a time; a bound here would make requests wait unseen. A connection
    # for each request, which costs little here: one that was kept may end just as the next request is sent on it, and
    # then nobody knows whether that request arrived.
    connector = (
        aiohttp.UnixConnector(path=endpoint.socket_path, limit=0, force_close=True)
        if endpoint.socket_path is not None
        else aiohttp.TCPConnector(limit=0, force_close=True)
    )
    headers = {"Authorization": f"Bearer {endpoint.key}", "Content-Type": "application/json"}
    async with aiohttp.ClientSession(connector=connector, headers=headers, trust_env=False) as session:
        try:
            yield session
        finally:
            _sessions.pop(key, None)


async def _tidy(loop: asyncio.AbstractEventLoop) -> None:
    """Lets go of the sessions of loops that ended, and of this loop's with gateways that are no more."""
    for key in list(_sessions):
        path = key[1].socket_path
        if key[0].is_closed():
            del _sessions[key]
        elif key[0] is loop and path is not None and not os.path.exists(path):
            await _sessions.pop(key)[1].aclose()


def _limits(seconds: float) -> "ClientTimeout":
    import aiohttp

    return aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT, sock_read=seconds)


async def send(
    gateway: Gateway,
    method: str,
    path: str,
    content: bytes | None,
    headers: Mapping[str, str] | None = None,
    seconds: float = TIMEOUT,
) -> "ClientResponse":
    """The head of the answer; its reader closes it.

    :param seconds: the longest silence before and within the answer
    :raises LocalError: if the gateway refuses, or can't be reached
    """
    import aiohttp

    retried = False
    while True:
        endpoint = await gateway.ready()
        session = await _session(endpoint)
        # A file is sent in pieces; a large body in one piece would keep the loop busy.
        data = io.BytesIO(content) if content is not None else None
        try:
            response = await session.request(
                method, endpoint.url + path, data=data, headers=headers, timeout=_limits(seconds)
            )
        except TimeoutError:
            raise LocalError(f"The gateway was silent for {seconds:.0f} seconds.", 504, "timeout") from None
        except aiohttp.ClientError as error:
            refused = error if isinstance(error, aiohttp.ClientConnectorError) else None
            if retried or (refused is None and method != "GET"):
                raise (gone() if refused is None else unreachable(endpoint, _reason(refused))) from None
            # The gateway has just ended, and this was not delivered; or it only reads.
            retried = True
            await threads.run(gateway.lost, endpoint)
            continue
        if response.status >= 400:
            failure = refusal(response.status, await body_of(response))
            failure.request_id = response.headers.get(REQUEST)
            raise failure
        return response


def _reason(error: "ClientConnectorError") -> OSError:
    """Why there is no connection; a certificate that is not believed has no error of the system."""
    reason = getattr(error, "_os_error", None)
    return reason if isinstance(reason, OSError) else OSError(str(error))


async def body_of(response: "ClientResponse") -> bytes:
    """The whole body.

    :raises LocalError: if it breaks off
    """
    import aiohttp

    try:
        async with response:
            return await response.read()
    except TimeoutError:
        raise LocalError("The gateway fell silent within its answer.", 504, "timeout") from None
    except aiohttp.ClientError:
        raise gone() from None


async def call(gateway: Gateway, method: str, path: str, query: Query | None = None, body: object = None) -> Any:
    """As :meth:`openwebui_token_tracking.client.LocalClient.request`, without blocking."""
    content = encoded(body).encode() if body is not None else None
    response = await send(gateway, method, path_of(path, query), content)
    return decoded(response.status, await body_of(response))


async def next_data(response: "ClientResponse") -> bytes:
    """What has arrived of a body; nothing at its end.

    :raises LocalError: if it breaks off
    """
    import aiohttp

    try:
        return await response.content.readany()
    except TimeoutError:
        raise LocalError("The gateway fell silent within its answer.", 504, "timeout") from None
    except aiohttp.ClientError:
        raise GatewayGoneError(
            "The process that tracks credits ended before the answer did. Please try again."
        ) from None
