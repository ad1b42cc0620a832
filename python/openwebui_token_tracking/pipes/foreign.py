"""A request that a pipe of one's own sends. Every path through here settles or releases its hold exactly once."""

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any

from openwebui_token_tracking import threads
from openwebui_token_tracking.client import Gateway
from openwebui_token_tracking.errors import LocalError, RequestError, TokenLimitExceededError, shown, user_text
from openwebui_token_tracking.pipes import lines, rules
from openwebui_token_tracking.pipes.calling import Call
from openwebui_token_tracking.pipes.chunks import Answer, text_of
from openwebui_token_tracking.pipes.holding import Hold, Outcome
from openwebui_token_tracking.pipes.overrides import Bridge
from openwebui_token_tracking.pipes.status import Emitter, show_credits
from openwebui_token_tracking.pipes.tokens import TokenCount, usage_of
from openwebui_token_tracking.tracking import UNDERWAY

if TYPE_CHECKING:
    from openwebui_token_tracking.pipes.base import BaseTrackedPipe

logger = logging.getLogger(__name__)

Bill = dict[str, Any]


class ForeignRequest:
    """One request whose credits are set aside."""

    def __init__(
        self,
        pipe: "BaseTrackedPipe",
        gateway: Gateway,
        call: Call,
        body: dict[str, Any],
        hold: Hold,
        limit: Decimal | None,
        emitter: Emitter | None,
    ) -> None:
        self._pipe = pipe
        self._gateway = gateway
        self._call = call
        self._hold = hold
        self._limit = limit
        self._emitter = emitter
        self._body = _limited(body, hold.max_tokens)
        self._tokens: object = TokenCount()
        self._answer = Answer(call.model_id)
        self._bridge = Bridge()
        # What `log_token_usage` was told within the request, by an override of 0.1.
        self._reported: TokenCount | None = None
        # Whether this package's own methods count the tokens, and so it reports them, too.
        self._is_counted = False
        # Headers and payload, where an override of `pipe` has made them.
        self._prepared: tuple[Any, Any] | None = None
        # What the gateway has charged, if it was asked to send the request after all.
        self._relayed: Bill | None = None

    @classmethod
    async def begin(
        cls,
        pipe: "BaseTrackedPipe",
        gateway: Gateway,
        call: Call,
        body: dict[str, Any],
        limit: Decimal | None,
        emitter: Emitter | None,
    ) -> "ForeignRequest":
        """Sets the credits aside.

        :raises LocalError: if the request is refused
        """
        hold = await Hold.take(gateway, call, body, limit)
        return cls(pipe, gateway, call, body, hold, limit, emitter)

    @classmethod
    async def within(
        cls, pipe: "BaseTrackedPipe", asked: Mapping[str, Any], headers: Any, payload: Any, model_id: str, user: Any
    ) -> Any:
        """What a synchronous override of ``pipe`` gets that sends by itself: what its own methods yield or return, unchanged.

        :param asked: what Open WebUI said
        :raises RequestError: if the request is refused
        """
        body = dict(asked.get("body") or payload)
        said = (asked.get(name) for name in ("__metadata__", "__task__", "__task_body__"))
        call = replace(Call.read(pipe.provider_name(), {"model": model_id, **body}, user, *said), model_id=model_id)
        try:
            request = await cls.begin(pipe, pipe.gateway(), call, body, None, None)
        except LocalError as error:
            raise shown(error) from error
        request._prepared = headers, payload
        return request._raw() if body.get("stream") else await request._raw_whole()

    async def streamed(self) -> AsyncGenerator[str, None]:
        """The answer as a stream. What fails before the first piece is raised here."""
        source = self._pieces()
        try:
            first = [await anext(source)]
        except StopAsyncIteration:
            first = []
        except Exception as error:
            raise await self._failed(error) from error
        except BaseException:
            self._client_is_gone()
            raise
        return self._stream(source, first)

    async def whole(self) -> dict[str, Any] | str:
        """The answer in one piece."""
        if not self._is_simple():
            return await self._made_whole()
        source = self._pieces()
        try:
            async for piece in source:
                self._take(piece)
        except Exception as error:
            raise await self._failed(error) from error
        except BaseException:
            self._client_is_gone()
            raise
        bill = await self._charge("complete")
        return self._answer.completion(bill)

    async def _asked_whole(self) -> Any:
        try:
            response = await threads.run(self._ask_whole)
            self._produced(text_of(response))
        except Exception as error:
            raise await self._failed(error) from error
        except BaseException:
            self._client_is_gone()
            raise
        finally:
            await self._bridge.end()
        return response

    async def _made_whole(self) -> dict[str, Any] | str:
        response = await self._asked_whole()
        bill = await self._charge("complete")
        if isinstance(response, dict):
            return self._answer.with_usage(response, bill)
        self._answer.take(str(response), may_be_line=False)
        return self._answer.completion(bill)

    async def _stream(self, source: AsyncGenerator[Any, None], first: list[Any]) -> AsyncGenerator[str, None]:
        ended = False
        try:
            try:
                for piece in first:
                    if line := self._take(piece):
                        yield line
                async for piece in source:
                    if line := self._take(piece):
                        yield line
                ended = True
                bill = await self._charge("complete")
            except Exception as error:
                was_charged, ended = ended, True
                failure = error if was_charged else await self._failed(error)
                yield lines.error(user_text(failure) if isinstance(failure, LocalError) else str(failure))
                yield lines.DONE
                return
            for line in self._answer.end(bill):
                yield line
        finally:
            if not ended:
                self._client_is_gone()
            await source.aclose()

    async def _raw(self) -> AsyncGenerator[Any, None]:
        source, ended = self._pieces(), False
        try:
            async for piece in source:
                self._take(piece)
                yield piece
            ended = True
            await self._charge("complete")
        except Exception as error:
            was_charged, ended = ended, True
            raise (error if was_charged else await self._failed(error)) from error
        finally:
            if not ended:
                self._client_is_gone()
            await source.aclose()

    async def _raw_whole(self) -> Any:
        response = await self._asked_whole()
        await self._charge("complete")
        return response

    def _is_simple(self) -> bool:
        from openwebui_token_tracking.pipes.base import BaseTrackedPipe

        return type(self._pipe).stream is not BaseTrackedPipe.stream

    async def _pieces(self) -> AsyncGenerator[Any, None]:
        from openwebui_token_tracking.pipes.base import StreamContext

        if not self._is_simple():
            blocking = threads.iterate(self._ask_stream)
            try:
                async for piece in blocking:
                    yield piece
            finally:
                await blocking.aclose()
                await self._bridge.end()
            return
        call = self._call
        context = StreamContext(call.model_id, call.user, call.task, call.metadata)
        self._tokens = context.usage
        source: AsyncIterator[Any] = self._pipe.stream({**self._body, "model": call.model_id}, context)
        try:
            async for piece in source:
                yield piece
        finally:
            if isinstance(source, AsyncGenerator):
                await source.aclose()

    def _ask_stream(self) -> Any:
        """In a thread: begins a stream by the contract of 0.1."""
        return self._of_0_1("stream_response")

    def _ask_whole(self) -> Any:
        """In a thread: a whole answer by the contract of 0.1."""
        return self._of_0_1("non_stream_response")

    def _of_0_1(self, method: str) -> Any:
        from openwebui_token_tracking.pipes.base import BaseTrackedPipe

        UNDERWAY.set(self)
        pipe, call = self._pipe, self._call
        if self._prepared is not None:
            # It has come from there.
            function = partial(getattr(BaseTrackedPipe, method), pipe, *self._prepared)
        else:
            function = partial(getattr(pipe, method), pipe._headers(), pipe._payload(call.model_id, self._body))
        return function(call.model_id, call.user, sponsored_allowance_name=call.sponsored_allowance_name)

    def counted_by(self, tokens: Any) -> None:
        self._tokens, self._is_counted = tokens, True

    def reports(
        self, db_url: str | None, provider: str, model_id: str, prompt_tokens: int, response_tokens: int
    ) -> bool:
        is_same = model_id == self._call.model_id and provider.casefold() == self._call.provider.casefold()
        if not is_same or db_url != getattr(self._pipe.token_tracker, "db_url", None):
            return False
        known = self._reported or TokenCount()
        self._reported = TokenCount(
            (known.prompt_tokens or 0) + int(prompt_tokens or 0), (known.response_tokens or 0) + int(response_tokens or 0)
        )
        return True

    def relay(self, headers: dict[str, Any], payload: dict[str, Any]) -> Any:
        """In a thread: lets the gateway send the request after all, because an override asks its ``super()`` to.

        :return: a generator of ``data:`` lines, or an answer
        :raises RequestError: if it is refused
        """
        return self._bridge.call(self._sent(headers, payload))

    async def _sent(self, headers: dict[str, Any], payload: dict[str, Any]) -> Any:
        if self._relayed is None:
            # The gateway sets aside what it needs itself.
            self._relayed = {"input_tokens": 0, "output_tokens": 0, "credits": Decimal(0)}
            await self._hold.release()
        try:
            answer = await self._pipe._relay(self._call, self._gateway, headers, payload, self._limit)
        except LocalError as error:
            raise shown(error) from error
        if isinstance(answer, dict):
            self._charged(answer.get("usage") or {})
            return answer
        return self._read(answer)

    async def _read(self, answer: AsyncGenerator[str, None]) -> AsyncGenerator[str, None]:
        try:
            async for line in answer:
                self._charged(lines.charged(line) or {})
                yield line
        finally:
            await answer.aclose()

    def _charged(self, usage: dict[str, Any]) -> None:
        if self._relayed is None or "credits" not in usage:
            return
        self._relayed["input_tokens"] += usage.get("prompt_tokens") or 0
        self._relayed["output_tokens"] += usage.get("completion_tokens") or 0
        self._relayed["credits"] += Decimal(str(usage["credits"]))
        self._relayed["credits_remaining"] = usage.get("credits_remaining")

    def _take(self, piece: object) -> str | None:
        text, line = self._answer.take(piece, may_be_line=not self._is_simple())
        self._produced(text)
        return line

    def _produced(self, text: str) -> None:
        if self._relayed is None:
            self._hold.produced(text)

    def _usage(self) -> dict[str, Any] | None:
        return usage_of(self._reported) or usage_of(self._tokens) or self._answer.usage

    async def _charge(self, outcome: Outcome) -> Bill:
        if self._relayed is not None:
            bill = self._relayed
        else:
            bill = await self._hold.settle(outcome, self._usage())
        if self._emitter is not None and outcome == "complete":
            await show_credits(self._emitter, self._gateway, self._call, bill)
        await self._report(bill)
        return bill

    async def _report(self, bill: Bill) -> None:
        if self._relayed is not None or not (self._is_simple() or self._is_counted):
            return  # Reported by the request that the gateway sent, or by the override.
        await rules.report(self._pipe.token_tracker, self._call, bill["input_tokens"], bill["output_tokens"])

    async def _failed(self, error: Exception) -> Exception:
        """Charges what a failed request has used, and says what its user is told."""
        try:
            if self._relayed is not None:
                pass  # The gateway has charged it.
            elif self._hold.has_produced or self._usage() is not None or _ran_out_of_time(error):
                await self._charge("provider_failed")
            else:
                await self._hold.release()
        except LocalError as refused:
            logger.warning("a failed request is charged later: %s", refused)
        if isinstance(error, (RequestError, TokenLimitExceededError, LocalError)):
            return error
        # The text of other errors may hold addresses and keys.
        logger.error("the request to %s failed", self._call.provider, exc_info=error)
        return RequestError(f"The request to {self._call.provider} failed ({type(error).__name__}).")

    def _client_is_gone(self) -> None:
        """Charges in the background what was produced until now: nobody waits for it any more."""
        if self._relayed is not None:
            return  # The gateway does that, as soon as its stream is closed.

        async def charge() -> None:
            try:
                await self._report(await self._hold.settle("client_gone", self._usage()))
            except LocalError as refused:
                logger.warning("a stopped request is charged later: %s", refused)

        rules.in_background(charge)


def _limited(body: dict[str, Any], max_tokens: int | None) -> dict[str, Any]:
    """The request with the output that its credits buy."""
    if max_tokens is None:
        return body
    name = "max_completion_tokens" if "max_completion_tokens" in body else "max_tokens"
    return {**body, name: max_tokens}


def _ran_out_of_time(error: BaseException) -> bool:
    """Whether the provider may have begun to work: it was reached, and did not answer in time."""
    name = type(error).__name__
    return isinstance(error, TimeoutError) or ("Timeout" in name and "Connect" not in name)
