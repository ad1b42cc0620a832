"""A pipe to a provider that the gateway knows: it sends and meters, the pipe only passes on."""

import json
import logging
import os
from collections.abc import AsyncGenerator, Iterable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field, model_validator

from openwebui_token_tracking import asynchronous, threads
from openwebui_token_tracking.client import Gateway
from openwebui_token_tracking.errors import LocalError, RequestError, user_text
from openwebui_token_tracking.pipes import compatible, lines, overrides, rules
from openwebui_token_tracking.pipes.base import BaseTrackedPipe
from openwebui_token_tracking.pipes.calling import Call
from openwebui_token_tracking.pipes.status import Emitter, show_credits
from openwebui_token_tracking.pipes.tokens import TokenCount

if TYPE_CHECKING:
    from aiohttp import ClientResponse

logger = logging.getLogger(__name__)

_CHATS = "/v1/chat/completions"
# Seconds that the gateway may be silent beyond its own time limits: it waits for other requests' credits, and settles.
_MARGIN = 60.0


def secret(variable: str, description: str) -> Any:
    """A valve with a key: masked in Open WebUI, by default what the environment variable says."""
    return Field(
        default_factory=lambda: os.environ.get(variable, ""),
        description=f"{description} By default what the environment variable {variable} says.",
        json_schema_extra={"input": {"type": "password"}},
    )


class ProviderValves(BaseModel):
    """The valves that all these pipes have. Stored ones that are not known are ignored."""

    @model_validator(mode="before")
    @classmethod
    def _unset(cls, stored: Any) -> Any:
        """Open WebUI stores what an administrator leaves at its default as null; before 0.7 it hands that on."""
        return {name: value for name, value in stored.items() if value is not None} if isinstance(stored, dict) else stored

    CONNECT_TIMEOUT: int = Field(default=10, ge=1, le=86400, description="Seconds to connect to the provider.")
    FIRST_BYTE_TIMEOUT: int = Field(
        default=300, ge=1, le=86400, description="Seconds until the provider begins to answer."
    )
    IDLE_TIMEOUT: int = Field(
        default=120, ge=1, le=86400, description="Seconds of silence within an answer until it is given up."
    )
    SHOW_CREDITS: bool = Field(
        default=True, description="Show below each answer what it cost, and how many credits are left."
    )
    DEBUG: bool = Field(default=False, description="Log each request, without its content.")


class ProviderTrackedPipe(BaseTrackedPipe):
    """The base of the pipes that come with this package."""

    kind: str = ""
    """The protocol, as the gateway names it."""
    valves: Any
    _set_url: str | None = None
    # What a subclass has set as `url`, without what the gateway puts behind it.
    _set_base_url: str | None = None

    def __init_subclass__(cls, **named: Any) -> None:
        super().__init_subclass__(**named)
        compatible.require_calls(cls)

    def protocol(self) -> str:
        """The protocol at this moment."""
        return self.kind

    def server(self) -> dict[str, Any]:
        """The model server as the valves say at this moment: ``base_url``, ``api_key`` and what else its kind knows."""
        raise NotImplementedError

    @property
    def url(self) -> str:
        """Where chats are sent. A subclass may set it, as in 0.1; it is used in place of the valve.

        :raises ValueError: if the gateway can't send to such an address
        """
        if self._set_url is not None:
            return self._set_url
        base_url = str(self.server().get("base_url") or "")
        return base_url.rstrip("/") + compatible.path_of(self.kind)

    @url.setter
    def url(self, value: str) -> None:
        self._set_base_url = compatible.base_url_of(self.kind, value, type(self).__name__)
        self._set_url = value if self._set_base_url is not None else None

    def _headers(self) -> dict[str, Any]:
        """The headers that say who asks the provider. An override may change them and add others; may block."""
        return compatible.headers_of(self.protocol(), self.server())

    def _payload(self, model_id: str, body: dict[str, Any]) -> dict[str, Any]:
        """The request as it is handed to the gateway: in OpenAI's form, whoever the provider is. An override may block."""
        return {**body, "model": model_id}

    def _make_stream_request(
        self, headers: dict[str, Any], payload: dict[str, Any]
    ) -> tuple[TokenCount, Iterable[Any]]:
        """Not used unless a subclass has an override; then its ``super()`` sends the request through the gateway."""
        return compatible.stream(self.kind, headers, payload)

    def _make_non_stream_request(self, headers: dict[str, Any], payload: dict[str, Any]) -> tuple[TokenCount, Any]:
        """Not used unless a subclass has an override; then its ``super()`` sends the request through the gateway."""
        return compatible.whole(self.kind, headers, payload)

    def _named(self, gateway: Gateway, headers: Mapping[str, Any] | None) -> dict[str, str]:
        """The header that names the model server; a gateway that somebody else runs has its own."""
        if headers is not None and headers == compatible.headers_of(self.protocol(), self.server()):
            headers = None
        if not gateway.is_private:
            if headers is not None or self._set_base_url is not None:
                raise RequestError(
                    "This pipe has _headers or a url of its own, which the gateway at OWUI_TRACKING_URL does not take from "
                    "requests. An administrator can unset OWUI_TRACKING_URL, or configure both at that gateway."
                )
            return {}
        server = self.server()
        if self._set_base_url is not None:
            server["base_url"] = self._set_base_url
        if headers is not None:
            server = compatible.with_headers(self.protocol(), server, headers)
        named = {"name": self.provider_name(), "kind": self.protocol(), **server}
        named["connect_timeout"] = self._valve("CONNECT_TIMEOUT")
        named["first_byte_timeout"] = self._valve("FIRST_BYTE_TIMEOUT")
        named["idle_timeout"] = self._valve("IDLE_TIMEOUT")
        return {"X-Tracking-Server": json.dumps(named)}

    def _valve(self, name: str) -> Any:
        """A valve; those that a subclass has written without it have its default."""
        default = ProviderValves.model_fields[name].get_default()
        return getattr(self.valves, name, default)

    async def _answer(
        self, call: Call, body: dict[str, Any], limit: Decimal | None, emitter: Emitter | None
    ) -> AsyncGenerator[str, None] | dict[str, Any] | str:
        if overrides.is_written(self, *compatible.sending(bool(body.get("stream")))):
            return await super()._answer(call, body, limit, emitter)
        has_headers = overrides.is_written(self, "_headers")
        if not has_headers and not overrides.is_written(self, "_payload"):
            return await self._relay(call, self.gateway(), None, self._payload(call.model_id, body), limit, emitter)

        def asked() -> tuple[dict[str, Any] | None, dict[str, Any]]:
            return self._headers() if has_headers else None, self._payload(call.model_id, body)

        headers, payload = await threads.run(asked)
        return await self._relay(call, self.gateway(), headers, payload, limit, emitter)

    async def _relay(
        self,
        call: Call,
        gateway: Gateway,
        headers: Mapping[str, Any] | None,
        payload: Mapping[str, Any],
        limit: Decimal | None,
        emitter: Emitter | None = None,
    ) -> AsyncGenerator[str, None] | dict[str, Any]:
        """Sends a request through the gateway.

        :param headers: those for the provider; ``None`` for the usual ones
        :raises LocalError: if it is refused
        """
        # The private gateway is this process's own, and knows no secret.
        who = call.headers(sign=not gateway.is_private)
        ours = {**who, **self._named(gateway, headers), **rules.limit_headers(gateway, limit)}
        content = json.dumps(payload, ensure_ascii=False).encode()
        patience = max(self._valve("FIRST_BYTE_TIMEOUT"), self._valve("IDLE_TIMEOUT")) + _MARGIN
        try:
            response = await asynchronous.send(gateway, "POST", _CHATS, content, ours, patience)
        except LocalError as error:
            self._report(call, gateway, error.request_id)
            raise
        if payload.get("stream"):
            return await self._begun(call, gateway, response, emitter)
        return await self._whole(call, gateway, response, emitter)

    async def _whole(
        self, call: Call, gateway: Gateway, response: "ClientResponse", emitter: Emitter | None
    ) -> dict[str, Any]:
        request = response.headers.get(asynchronous.REQUEST)
        try:
            content = await asynchronous.body_of(response)
        except BaseException:
            self._report(call, gateway, request)
            raise
        answer: dict[str, Any] = json.loads(content)
        if emitter is not None and "credits" in (answer.get("usage") or {}):
            await show_credits(emitter, gateway, call, answer["usage"])
        await rules.report_request(self.token_tracker, call, gateway, request)
        return answer

    async def _begun(
        self, call: Call, gateway: Gateway, response: "ClientResponse", emitter: Emitter | None
    ) -> AsyncGenerator[str, None]:
        """The stream, after its first line: what fails before that can still be raised."""
        cutter, first = lines.Lines(), list[str]()
        try:
            while not first and (data := await asynchronous.next_data(response)):
                first = cutter.feed(data)
            if first and lines.is_error(first[0]):
                message, code = lines.message_of(first[0])
                raise RequestError(message, response.status, code)
        except BaseException:
            response.close()
            self._report(call, gateway, response.headers.get(asynchronous.REQUEST))
            raise
        return self._stream(call, gateway, response, emitter, cutter, first)

    async def _stream(
        self,
        call: Call,
        gateway: Gateway,
        response: "ClientResponse",
        emitter: Emitter | None,
        cutter: lines.Lines,
        ready: list[str],
    ) -> AsyncGenerator[str, None]:
        request = response.headers.get(asynchronous.REQUEST)
        is_reported = False
        try:
            try:
                while True:
                    for line in ready:
                        if lines.is_error(line):
                            line = lines.error(lines.message_of(line)[0])
                        elif emitter is not None and (bill := lines.charged(line)):
                            await show_credits(emitter, gateway, call, bill)
                        yield line
                    data = await asynchronous.next_data(response)
                    if not data:
                        break
                    ready = cutter.feed(data)
            except LocalError as error:
                yield lines.error(user_text(error))
            await rules.report_request(self.token_tracker, call, gateway, request)
            is_reported = True
        finally:
            # Closed at once, also when it is not at its end: so the gateway stops the provider, and charges.
            response.close()
            if not is_reported:
                self._report(call, gateway, request)

    def _report(self, call: Call, gateway: Gateway, request: str | None) -> None:
        if request is not None and rules.overridden(self.token_tracker, "log_token_usage"):
            tracker = self.token_tracker
            rules.in_background(lambda: rules.report_request(tracker, call, gateway, request))
