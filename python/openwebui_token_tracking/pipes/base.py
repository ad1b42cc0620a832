"""The base of all tracked pipes, and of one's own.

A pipe of one's own, for a provider that this package does not know, says how to ask it. Credits are set aside before, and
charged after, whatever happens in between. The simple way is one asynchronous generator::

    class Pipe(BaseTrackedPipe):
        provider = "example"

        async def stream(self, body, context):
            async for piece in example.chat(context.model_id, body["messages"]):
                yield piece.text
            context.usage.prompt_tokens = piece.tokens_in
            context.usage.response_tokens = piece.tokens_out

The other is the contract of 0.1: :meth:`~BaseTrackedPipe._headers`, :meth:`~BaseTrackedPipe._payload`,
:meth:`~BaseTrackedPipe._make_stream_request`, :meth:`~BaseTrackedPipe._make_non_stream_request`. These may block; they run
in a thread of their own. So do :meth:`~BaseTrackedPipe.stream_response`, :meth:`~BaseTrackedPipe.non_stream_response`,
:meth:`~BaseTrackedPipe._check_limits`, and a synchronous ``pipe`` or ``pipes``, where a subclass has them.
"""

import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from pydantic import BaseModel, Field

from openwebui_token_tracking import child, threads
from openwebui_token_tracking._calls import call
from openwebui_token_tracking.client import Gateway
from openwebui_token_tracking.errors import LocalError, RequestError, shown
from openwebui_token_tracking.pipes import overrides, rules
from openwebui_token_tracking.pipes.calling import Call
from openwebui_token_tracking.pipes.status import Emitter
from openwebui_token_tracking.pipes.tokens import TokenCount
from openwebui_token_tracking.tracking import UNDERWAY, TokenTracker

__all__ = ["BaseTrackedPipe", "RequestError", "StreamContext", "TokenCount"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StreamContext:
    """What :meth:`BaseTrackedPipe.stream` is told beside the request, and where it says what was used."""

    model_id: str
    """The provider's id of the model."""
    user: Mapping[str, Any]
    """The user as Open WebUI describes them."""
    task: str | None
    """Open WebUI's task, such as ``title_generation``; ``None`` for a chat."""
    metadata: Mapping[str, Any]
    """What else Open WebUI says."""
    usage: TokenCount = field(default_factory=TokenCount)
    """To be filled in when the provider says it, at the latest before the generator ends. If it is not, tokens are counted,
    and the charge is marked as estimated."""


class BaseTrackedPipe:
    """A manifold of models whose use is tracked and limited."""

    provider: str = ""
    """The provider's name in the price table; the models are those that have a price there."""
    url: str = ""
    """Where the provider is, for the pipe's own use."""
    tracker_class: type[TokenTracker] = TokenTracker
    """The rules: a subclass of :class:`~openwebui_token_tracking.tracking.TokenTracker`."""

    DATABASE_URL_ENV = "DATABASE_URL"
    MODEL_ID_PREFIX = "."

    class Valves(BaseModel):
        """What an administrator sets. A subclass brings its own; what it does not know is ignored."""

        SHOW_CREDITS: bool = Field(
            default=True, description="Show below each answer what it cost, and how many credits are left."
        )
        DEBUG: bool = Field(default=False, description="Log each request, without its content.")

    valves: BaseModel

    def __init_subclass__(cls, **named: Any) -> None:
        super().__init_subclass__(**named)
        overrides.adopt(cls)

    def __init__(self, provider: str | None = None, url: str | None = None) -> None:
        if provider is not None:
            self.provider = provider
        if url is not None:
            self.url = url
        self.type = "manifold"
        self.valves = self.Valves()
        self.token_tracker = self.tracker_class()

    # What Open WebUI calls.

    @overrides.either
    async def pipes(self) -> list[dict[str, str]]:
        """The models, as Open WebUI lists them."""
        return await threads.run(self.get_models)

    @overrides.either
    async def pipe(
        self,
        body: dict[str, Any],
        __user__: Mapping[str, Any] | None = None,
        __metadata__: Mapping[str, Any] | None = None,
        __task__: object = None,
        __task_body__: Mapping[str, Any] | None = None,
        __event_emitter__: Emitter | None = None,
    ) -> AsyncGenerator[str, None] | dict[str, Any] | str:
        """Answers one request: an asynchronous generator of ``data:`` lines for a stream, else a whole answer.

        :raises TokenLimitExceededError: if a limit is reached
        :raises RequestError: if the request is refused, or fails before anything was answered
        """
        call = Call.read(self.provider_name(), body, __user__, __metadata__, __task__, __task_body__)
        if getattr(self.valves, "DEBUG", False):
            logger.info(
                "%s: model %s, workspace model %s, task %s, stream %s",
                *(call.provider, call.model_id, call.workspace_model, call.task, bool(body.get("stream"))),
            )
        wants_line = getattr(self.valves, "SHOW_CREDITS", True) and call.task is None
        emitter = __event_emitter__ if wants_line else None
        try:
            check = self._check_limits if overrides.is_written(self, "_check_limits") else None
            limit = await rules.pass_gates(self.token_tracker, call, body, check)
            return await self._answer(call, body, limit, emitter)
        except LocalError as error:
            raise shown(error) from error

    # What scripts call.

    def get_models(self) -> list[dict[str, str]]:
        """The models: each its ``id`` and ``name``. Blocks; in asynchronous code use :meth:`pipes`.

        Beside the provider's own, those that sponsored allowances offer to their members: Open WebUI asks for one list for
        all its users, and shows each what they are granted. A tracker with models of its own decides alone.
        """
        provider, tracker = self.provider_name(), self.token_tracker
        models = [{"id": model.id, "name": model.name} for model in tracker.get_models(provider=provider)]
        if rules.overridden(tracker, "get_models"):
            return models
        offered = call(getattr(tracker, "db_url", None), "GET", "models", {"provider": provider})
        # A gateway of another version has none.
        return models + [{"id": model["id"], "name": model["name"]} for model in offered.get("sponsored", [])]

    # What a subclass says: either `stream`, or the four below it.

    def provider_name(self) -> str:
        """The provider's name in the price table at this moment."""
        return self.provider

    def stream(self, body: dict[str, Any], context: StreamContext) -> AsyncIterator[str | dict[str, Any]]:
        """Asks the provider. An asynchronous generator of text, or of chunks in OpenAI's form; may hold one ``usage``.

        :param body: the request in OpenAI's form, ``model`` being the provider's id
        :raises RequestError: if the provider refuses; its text is shown to the user
        """
        raise NotImplementedError

    def _headers(self) -> dict[str, Any]:
        """The headers of a request to the provider."""
        raise NotImplementedError

    def _payload(self, model_id: str, body: dict[str, Any]) -> dict[str, Any]:
        """The provider's form of a request that Open WebUI made."""
        raise NotImplementedError

    def _make_stream_request(
        self, headers: dict[str, Any], payload: dict[str, Any]
    ) -> tuple[TokenCount, Iterable[Any]]:
        """Asks for a stream. Returns a count that is filled in by its end, and a generator of text or ``data:`` lines.

        :raises RequestError: if the provider refuses; its text is shown to the user
        """
        raise NotImplementedError

    def _make_non_stream_request(self, headers: dict[str, Any], payload: dict[str, Any]) -> tuple[TokenCount, Any]:
        """Asks for a whole answer. Returns the count, and text or an answer in OpenAI's form.

        :raises RequestError: if the provider refuses; its text is shown to the user
        """
        raise NotImplementedError

    # Around those four, as in 0.1.

    def stream_response(
        self,
        headers: dict[str, Any],
        payload: dict[str, Any],
        model_id: str,
        user: Mapping[str, Any],
        sponsored_allowance_name: str | None = None,
    ) -> Iterator[Any]:
        """A stream, from :meth:`_make_stream_request`. An override that does without this one reports the usage itself, by
        ``self.token_tracker.log_token_usage``; a request that has no report is charged by what was counted.
        """
        request, bridge = UNDERWAY.get(), overrides.bridge()
        if request is None and bridge is not None:
            yield from bridge.call(self._within(bridge, headers, payload, model_id, user))
            return
        tokens, pieces = self._make_stream_request(headers, payload)
        if request is not None:
            request.counted_by(tokens)
        yield from pieces
        if request is None:
            self._log(model_id, user, tokens, sponsored_allowance_name)

    def non_stream_response(
        self,
        headers: dict[str, Any],
        payload: dict[str, Any],
        model_id: str,
        user: Mapping[str, Any],
        sponsored_allowance_name: str | None = None,
    ) -> Any:
        """A whole answer, from :meth:`_make_non_stream_request`; see :meth:`stream_response`."""
        request, bridge = UNDERWAY.get(), overrides.bridge()
        if request is None and bridge is not None:
            return bridge.call(self._within(bridge, headers, payload, model_id, user))
        tokens, response = self._make_non_stream_request(headers, payload)
        if request is not None:
            request.counted_by(tokens)
        else:
            self._log(model_id, user, tokens, sponsored_allowance_name)
        return response

    def _check_limits(
        self, model_id: str, user: Mapping[str, Any], sponsored_allowance_name: str | None = None
    ) -> bool:
        """Whether the tracker lets a user ask a model. Called only where a subclass has an override, before credits are set
        aside. An override that does without this one decides alone: the user's own limit does not count then.

        :return: ``True``
        :raises TokenLimitExceededError: if a limit is reached
        """
        return rules.check_limits(self.token_tracker, model_id, user, sponsored_allowance_name)

    async def _within(self, bridge: overrides.Bridge, headers: Any, payload: Any, model_id: str, user: Any) -> Any:
        """For an override of :meth:`pipe` that does without ``super()``."""
        from openwebui_token_tracking.pipes.foreign import ForeignRequest

        return await ForeignRequest.within(self, bridge.asked, headers, payload, model_id, user)

    def _log(self, model_id: str, user: Mapping[str, Any], tokens: Any, sponsored: str | None) -> None:
        """The report of a stream or an answer that a script has asked for, outside of :meth:`pipe`."""
        self.token_tracker.log_token_usage(
            provider=self.provider_name(),
            model_id=model_id,
            user=user,
            prompt_tokens=tokens.prompt_tokens,
            response_tokens=tokens.response_tokens,
            sponsored_allowance_name=sponsored,
        )

    # How it is answered.

    def gateway(self) -> Gateway:
        """The gateway that tracks this pipe's requests."""
        if os.environ.get("OWUI_TRACKING_URL"):
            return child.gateway()
        return child.gateway(getattr(self.token_tracker, "db_url", None))

    async def _relay(
        self,
        call: Call,
        gateway: Gateway,
        headers: Mapping[str, Any] | None,
        payload: Mapping[str, Any],
        limit: Decimal | None,
    ) -> AsyncGenerator[str, None] | dict[str, Any]:
        """Sends a request through the gateway, where this package knows the provider."""
        raise NotImplementedError

    async def _answer(
        self, call: Call, body: dict[str, Any], limit: Decimal | None, emitter: Emitter | None
    ) -> AsyncGenerator[str, None] | dict[str, Any] | str:
        from openwebui_token_tracking.pipes.foreign import ForeignRequest

        gateway = self.gateway()
        request = await ForeignRequest.begin(self, gateway, call, body, limit, emitter)
        if body.get("stream"):
            return await request.streamed()
        return await request.whole()
