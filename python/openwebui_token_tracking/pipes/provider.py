"""A pipe to a provider that the gateway knows: it sends and meters, the pipe only passes on."""

import json
import logging
import os
from collections.abc import AsyncGenerator
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field, model_validator

from openwebui_token_tracking import asynchronous
from openwebui_token_tracking.client import Gateway
from openwebui_token_tracking.errors import LocalError, RequestError, user_text
from openwebui_token_tracking.pipes import lines, rules
from openwebui_token_tracking.pipes.base import BaseTrackedPipe
from openwebui_token_tracking.pipes.calling import Call
from openwebui_token_tracking.pipes.status import Emitter, show_credits

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

    def protocol(self) -> str:
        """The protocol at this moment."""
        return self.kind

    def server(self) -> dict[str, Any]:
        """The model server as the valves say at this moment: ``base_url``, ``api_key`` and what else its kind knows."""
        raise NotImplementedError

    def _headers(self) -> dict[str, Any]:
        """Not used here: the gateway makes the provider's headers."""
        return {}

    def _payload(self, model_id: str, body: dict[str, Any]) -> dict[str, Any]:
        """The request as it is handed to the gateway: in OpenAI's form, whoever the provider is. Must not block."""
        return {**body, "model": model_id}

    def _named(self, gateway: Gateway) -> dict[str, str]:
        """The header that names the model server; a gateway that somebody else runs has its own."""
        if not gateway.is_private:
            return {}
        valves = self.valves
        named = {
            "name": self.provider_name(),
            "kind": self.protocol(),
            **self.server(),
            "connect_timeout": valves.CONNECT_TIMEOUT,
            "first_byte_timeout": valves.FIRST_BYTE_TIMEOUT,
            "idle_timeout": valves.IDLE_TIMEOUT,
        }
        return {"X-Tracking-Server": json.dumps(named)}

    async def _answer(
        self, call: Call, body: dict[str, Any], limit: Decimal | None, emitter: Emitter | None
    ) -> AsyncGenerator[str, None] | dict[str, Any] | str:
        gateway = self.gateway()
        # The private gateway is this process's own, and knows no secret.
        who = call.headers(sign=not gateway.is_private)
        headers = {**who, **self._named(gateway), **rules.limit_headers(gateway, limit)}
        payload = self._payload(call.model_id, body)
        content = json.dumps(payload, ensure_ascii=False).encode()
        patience = max(self.valves.FIRST_BYTE_TIMEOUT, self.valves.IDLE_TIMEOUT) + _MARGIN
        try:
            response = await asynchronous.send(gateway, "POST", _CHATS, content, headers, patience)
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
