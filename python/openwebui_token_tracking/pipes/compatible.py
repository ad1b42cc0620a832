"""What subclasses of the provider's pipes find of version 0.1: its headers, its addresses, its methods that send.

What can't be as it was is refused when the class is made, or the address set, with what to write instead.
"""

import inspect
import logging
from collections.abc import Iterator, Mapping
from types import CodeType
from typing import Any, NoReturn

from openwebui_token_tracking.errors import RequestError
from openwebui_token_tracking.pipes import lines
from openwebui_token_tracking.pipes.tokens import TokenCount
from openwebui_token_tracking.tracking import UNDERWAY

logger = logging.getLogger(__name__)

# What the gateway puts behind a base URL, and whether 0.1 sent its chats to `url` at all.
_PATHS = {"anthropic": ("/v1/messages", True), "mistral": ("/chat/completions", True)}
# The header with the key, where it is not `Authorization: Bearer …`.
_KEYS = {"anthropic": "x-api-key", "azure": "api-key", "google": "x-goog-api-key"}
# What the gateway sends itself, and in which form.
_SENT = {"content-type": "application/json", "accept": "", "anthropic-version": "2023-06-01"}
# Methods that send a request, by whether it is a stream; the last of each is the contract of this version.
_SENDING = {
    True: ("stream_response", "_make_stream_request", "stream"),
    False: ("non_stream_response", "_make_non_stream_request", "stream"),
}
# Methods of 0.1 that this package's pipes have not, because the gateway does their work.
_GONE = {"anthropic": ("_process_messages", "_process_image"), "mistral": ("_handle_response",)}
# Whose `_payload` was in the provider's own form in 0.1, and is in OpenAI's here.
_OTHER_FORMS = ("anthropic", "google", "ollama")


def sending(is_stream: bool) -> tuple[str, ...]:
    """The methods an override of which sends a request itself."""
    return _SENDING[is_stream]


def path_of(kind: str) -> str:
    """What stands behind a base URL of such a server."""
    return _PATHS.get(kind, ("/chat/completions", False))[0]


def base_url_of(kind: str, url: str, pipe: str) -> str | None:
    """The base URL for an address that a subclass sets; ``None`` where 0.1 did not use it either.

    :raises ValueError: if the gateway can't send to it
    """
    path, is_used = _PATHS.get(kind, ("", False))
    if not url or not is_used:
        if url and kind not in ("", "openai"):
            logger.warning("%s.url is not used, as in version 0.1; the address is a valve", pipe)
        return None
    if not url.endswith(path):
        raise ValueError(
            f"{pipe}.url is {url!r}, but must end in {path}, which the gateway puts behind the address itself; or set the "
            f"valve {kind.upper()}_API_BASE_URL in place of url"
        )
    return url.removesuffix(path)


def headers_of(protocol: str, server: Mapping[str, Any]) -> dict[str, Any]:
    """The headers of a request to such a server."""
    key, name = server.get("api_key") or "", _KEYS.get(protocol)
    headers = {name: key} if name is not None else {"Authorization": f"Bearer {key}"}
    if protocol == "anthropic":
        headers["anthropic-version"] = _SENT["anthropic-version"]
    return {**headers, "content-type": _SENT["content-type"], **(server.get("headers") or {})}


def with_headers(protocol: str, server: Mapping[str, Any], headers: Mapping[str, Any]) -> dict[str, Any]:
    """The server with headers that an override of ``_headers`` made: the key among them, and all others.

    :raises RequestError: if the key is in no form that the gateway can send
    """
    given = {str(name).lower(): _text(value) for name, value in headers.items() if value is not None}
    name = _KEYS.get(protocol, "authorization")
    key = given.pop(name, "")
    if name == "authorization" and key:
        scheme, _, key = key.partition(" ")
        if scheme.lower() != "bearer":
            raise RequestError(f"_headers of this pipe has an Authorization that is no Bearer, but {scheme}.")
    more = {name: value for name, value in given.items() if not _is_sent(name, value)}
    return {**server, "api_key": key.strip(), "headers": more}


def _is_sent(name: str, value: str) -> bool:
    return name in _SENT and value.startswith(_SENT[name])


def _text(value: object) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def stream(kind: str, headers: dict[str, Any], payload: dict[str, Any]) -> tuple[TokenCount, Iterator[Any]]:
    """What ``super()._make_stream_request`` returned in 0.1. The request is sent when the first piece is asked for."""
    tokens = TokenCount()

    def pieces() -> Iterator[Any]:
        for line in _relayed(headers, {**payload, "stream": True}):
            usage = lines.content(line).get("usage") or {}
            _count(tokens, usage)
            # The pipes for OpenAI yielded lines, the others text.
            text = None if kind == "openai" else lines.text_of(line)
            if text != "":
                yield line if text is None else text

    return tokens, pieces()


def whole(kind: str, headers: dict[str, Any], payload: dict[str, Any]) -> tuple[TokenCount, Any]:
    """What ``super()._make_non_stream_request`` returned in 0.1."""
    answer, tokens = _relayed(headers, {**payload, "stream": False}), TokenCount()
    _count(tokens, answer.get("usage") or {})
    if kind == "openai":
        return tokens, answer
    message = (answer.get("choices") or [{}])[0].get("message") or {}
    return tokens, answer if message.get("tool_calls") else message.get("content") or ""


def _relayed(headers: dict[str, Any], payload: dict[str, Any]) -> Any:
    request = UNDERWAY.get()
    if request is None:
        raise RequestError("This method sends a request only while pipe() answers one, in the thread in which it was called.")
    return request.relay(headers, payload)


def _count(tokens: TokenCount, usage: Mapping[str, Any]) -> None:
    tokens.prompt_tokens = usage.get("prompt_tokens") or tokens.prompt_tokens
    tokens.response_tokens = usage.get("completion_tokens") or tokens.response_tokens


def require_calls(cls: Any) -> None:
    """Refuses a subclass with methods that would never be called, or that would get something else than in 0.1.

    :raises TypeError: with what to write instead
    """
    if cls.kind not in _GONE and cls.kind not in _OTHER_FORMS:
        return
    has_payload = _is_own(cls, "_payload") and not _mentions(cls, "_payload", "_payload")
    for name in _GONE.get(cls.kind, ()):
        if _is_own(cls, name) and not has_payload:
            _refuse(cls, name, "is not called any more, because the gateway does its work")
    if cls.kind not in _OTHER_FORMS or has_payload:
        return
    for response, request, _ in _SENDING.values():
        for name in (response, request):
            if _is_own(cls, name) and not any(_mentions(cls, name, one) for one in (response, request)):
                _refuse(cls, name, "sends a payload that is in OpenAI's form here, and was in the provider's")


_INSTEAD = (
    "Override _payload, which gets and returns the request in OpenAI's form; or make the provider's form there, without super(), "
    "and send it in _make_stream_request and _make_non_stream_request."
)


def gone(pipe: object, name: str) -> NotImplementedError:
    """What a method of 0.1 raises whose work the gateway does."""
    return NotImplementedError(f"{type(pipe).__name__}.{name} does nothing any more: the gateway does its work. {_INSTEAD}")


def _refuse(cls: type, name: str, why: str) -> NoReturn:
    raise TypeError(f"{cls.__name__}.{name} {why}. {_INSTEAD}")


def _is_own(cls: type, name: str) -> bool:
    module = getattr(getattr(cls, name, None), "__module__", None) or __name__
    return module.partition(".")[0] != __name__.partition(".")[0]


def _mentions(cls: type, name: str, attribute: str) -> bool:
    """Whether the code of a method names an attribute, as `super()._payload` does."""
    code = getattr(inspect.unwrap(getattr(cls, name)), "__code__", None)
    return code is None or attribute in _names(code)


def _names(code: CodeType) -> set[str]:
    nested = [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return set(code.co_names).union(*(_names(one) for one in nested))
