"""Pipes of one's own, by both contracts: whatever happens, what was produced is charged."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from pydantic import BaseModel
from stage import Emitter, Stage, body, events, metadata, read, text, until, usage

from openwebui_token_tracking.pipes.base_tracked_pipe import (
    BaseTrackedPipe,
    RequestError,
    StreamContext,
    TokenCount,
)
from openwebui_token_tracking.tracking import DailyTokenLimitExceededError, TokenTracker

BASE = "own.own-test"
WORDS = ["The ", "answer ", "is ", "here"]


class Simple(BaseTrackedPipe):
    """The new contract; the last message says what happens."""

    provider = "own"

    async def stream(self, body: dict[str, Any], context: StreamContext) -> AsyncIterator[str | dict[str, Any]]:
        what = body["messages"][-1]["content"]
        assert body["model"] == context.model_id == "own-test"
        if what == "refuse":
            raise RequestError("the provider is full")
        if what == "bug":
            raise KeyError("sk-secret")
        if what == "late":
            raise TimeoutError
        if what == "chunks":
            yield {"choices": [{"index": 0, "delta": {"reasoning_content": "Hm"}}]}
            yield {"choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": None}]}
            yield {
                "choices": [
                    {
                        "index": 0,
                        "delta": {
                            "tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}]
                        },
                    }
                ]
            }
            yield {
                "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}],
                "usage": {"prompt_tokens": 1000, "completion_tokens": 20},
            }
            return
        for word in WORDS:
            yield word
        if what == "break":
            raise RequestError("the provider broke")
        if what == "wait":
            await asyncio.Event().wait()
        if what != "silent":
            context.usage.prompt_tokens, context.usage.response_tokens = 1000, 20


class Classic(BaseTrackedPipe):
    """The contract of 0.1."""

    class Valves(BaseModel):
        DEBUG: bool = False

    def __init__(self) -> None:
        super().__init__(provider="own", url="http://localhost/own")
        self.loop_thread = threading.get_ident()
        self.closed = threading.Event()
        self.release = threading.Event()
        self.asked = threading.Event()

    def _headers(self) -> dict[str, Any]:
        assert threading.get_ident() != self.loop_thread, "off the event loop"
        return {"Authorization": "Bearer a-key"}

    def _payload(self, model_id: str, body: dict[str, Any]) -> dict[str, Any]:
        return {"model": model_id, "what": body["messages"][-1]["content"]}

    def _make_stream_request(
        self, headers: dict[str, Any], payload: dict[str, Any]
    ) -> tuple[TokenCount, Iterator[Any]]:
        assert headers["Authorization"] and payload["model"] == "own-test"
        tokens = TokenCount()

        def pieces() -> Iterator[Any]:
            what = payload["what"]
            try:
                if what == "refuse":
                    raise RequestError("HTTP Error 529: full")
                if what == "lines":
                    yield 'data: {"choices":[{"index":0,"delta":{"content":"Hi"}}]}'
                    yield b'data: {"choices":[],"usage":{"prompt_tokens":1000,"completion_tokens":20}}'
                    yield "data: [DONE]"
                    return
                yield from WORDS
                if what == "wait":
                    while not self.release.wait(0.01):
                        yield "more "
                tokens.prompt_tokens, tokens.response_tokens = 1000, 20
            finally:
                self.closed.set()

        return tokens, pieces()

    def _make_non_stream_request(self, headers: dict[str, Any], payload: dict[str, Any]) -> tuple[TokenCount, Any]:
        self.asked.set()
        if payload["what"] == "refuse":
            raise RequestError("HTTP Error 529: full")
        if payload["what"] == "wait":
            self.release.wait(20)
        if payload["what"] == "lines":
            message = {"role": "assistant", "content": "Hi"}
            return TokenCount(1000, 20), {
                "choices": [{"index": 0, "message": message}],
                "usage": {"prompt_tokens": 1000, "completion_tokens": 20},
            }
        tokens = TokenCount()
        tokens.prompt_tokens, tokens.response_tokens = 1000, 20
        return tokens, "".join(WORDS)


each_contract = pytest.mark.parametrize("kind", [Simple, Classic])


def asked(what: str, stream: bool = True) -> dict[str, Any]:
    return {**body(BASE, stream=stream), "messages": [{"role": "user", "content": what}]}


@each_contract
async def test_a_stream(stage: Stage, kind: type[BaseTrackedPipe]) -> None:
    user, emitter, said = stage.new_user(), Emitter(), metadata(BASE)
    got = await read(await kind().pipe(asked("hello"), user, said, __event_emitter__=emitter))
    assert text(got) == "The answer is here"
    assert usage(got)["credits"] == 3.3 and usage(got)["total_tokens"] == 1020
    assert got[-1]["choices"][0]["finish_reason"] == "stop"
    assert emitter.lines[0].startswith("3.3 credits used, 996.7 left")
    (row,) = stage.rows(user["id"])
    assert (row["charge"], row["estimated"], row["outcome"]) == (3_300_000, None, "complete")
    assert (row["chat_id"], row["message_id"]) == (said["chat_id"], said["message_id"])


@each_contract
async def test_a_whole_answer(stage: Stage, kind: type[BaseTrackedPipe]) -> None:
    user = stage.new_user()
    answer: Any = await kind().pipe(asked("hello", stream=False), user, metadata(BASE))
    assert answer["choices"][0]["message"]["content"] == "The answer is here"
    assert answer["usage"]["credits"] == 3.3
    assert [row["charge"] for row in stage.rows(user["id"])] == [3_300_000]


@each_contract
async def test_models_are_those_with_a_price(stage: Stage, kind: type[BaseTrackedPipe]) -> None:
    assert await kind().pipes() == [{"id": "own-test", "name": "own-test"}]


@each_contract
async def test_what_fails_before_the_first_piece_is_raised_and_free(stage: Stage, kind: type[BaseTrackedPipe]) -> None:
    user = stage.new_user()
    for stream in (True, False):
        with pytest.raises(RequestError, match="full"):
            await kind().pipe(asked("refuse", stream), user, metadata(BASE))
    assert stage.rows(user["id"]) == [] and stage.held() == 0


async def test_other_exceptions_tell_no_secrets(stage: Stage) -> None:
    user = stage.new_user()
    with pytest.raises(RequestError) as caught:
        await Simple().pipe(asked("bug"), user, metadata(BASE))
    assert "sk-secret" not in str(caught.value) and "KeyError" in str(caught.value)
    assert stage.rows(user["id"]) == []


async def test_a_provider_that_did_not_answer_in_time_has_its_input_charged(stage: Stage) -> None:
    user = stage.new_user()
    with pytest.raises(RequestError, match="TimeoutError"):
        await Simple().pipe(asked("late"), user, metadata(BASE))
    (row,) = stage.rows(user["id"])
    assert row["input_tokens"] > 0 and row["output_tokens"] == 0 and row["estimated"] is not None


async def test_what_breaks_off_is_shown_and_charged(stage: Stage) -> None:
    user = stage.new_user()
    got = await read(await Simple().pipe(asked("break"), user, metadata(BASE)))
    assert text(got) == "The answer is here"
    assert got[-1]["error"]["message"] == "the provider broke"
    (row,) = stage.rows(user["id"])
    assert (row["outcome"], row["output_tokens"] > 0) == ("provider_failed", True)
    with pytest.raises(RequestError, match="broke"):
        await Simple().pipe(asked("break", stream=False), user, metadata(BASE))
    assert len(stage.rows(user["id"])) == 2


async def test_without_usage_tokens_are_counted(stage: Stage) -> None:
    user = stage.new_user()
    got = await read(await Simple().pipe(asked("silent"), user, metadata(BASE)))
    assert usage(got)["completion_tokens"] > 0
    (row,) = stage.rows(user["id"])
    assert row["estimated"] is not None and row["charge"] > 0


@each_contract
async def test_stop_is_charged(stage: Stage, kind: type[BaseTrackedPipe]) -> None:
    user, pipe = stage.new_user(), kind()
    seen: list[dict[str, Any]] = []

    async def chat() -> None:
        async for event in events(await pipe.pipe(asked("wait"), user, metadata(BASE))):
            seen.append(event)

    task = asyncio.ensure_future(chat())
    await until(lambda: len(seen) >= 4)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (row,) = await until(lambda: stage.rows(user["id"]))
    assert row["outcome"] == "client_gone" and row["estimated"] is not None
    assert row["output_tokens"] >= 4
    if isinstance(pipe, Classic):
        assert await until(pipe.closed.is_set), "the generator is closed in its thread"


@each_contract
async def test_a_reader_that_goes_away_is_charged(stage: Stage, kind: type[BaseTrackedPipe]) -> None:
    user, pipe = stage.new_user(), kind()
    stream: Any = await pipe.pipe(asked("wait"), user, metadata(BASE))
    await anext(stream)
    await stream.aclose()
    (row,) = await until(lambda: stage.rows(user["id"]))
    assert row["outcome"] == "client_gone"


async def test_stop_of_a_whole_answer_charges_its_input(stage: Stage) -> None:
    user, pipe = stage.new_user(), Classic()
    task = asyncio.ensure_future(pipe.pipe(asked("wait", stream=False), user, metadata(BASE)))
    await until(pipe.asked.is_set)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (row,) = await until(lambda: stage.rows(user["id"]))
    assert row["input_tokens"] > 0 and row["output_tokens"] == 0
    pipe.release.set()


async def test_generators_that_block_do_not_block_the_loop(stage: Stage) -> None:
    user, pipes = stage.new_user(), [Classic() for _ in range(40)]
    tasks = [
        asyncio.ensure_future(pipe.pipe(asked("wait", stream=False), stage.new_user(), metadata(BASE)))
        for pipe in pipes
    ]
    await until(lambda: stage.held() == len(pipes))
    assert text(await read(await Classic().pipe(asked("hello"), user, metadata(BASE))))
    for pipe in pipes:
        pipe.release.set()
    await asyncio.gather(*tasks)


async def test_chunks_keep_their_form(stage: Stage) -> None:
    user = stage.new_user()
    got = await read(await Simple().pipe(asked("chunks"), user, metadata(BASE)))
    deltas = [choice["delta"] for event in got for choice in event["choices"]]
    assert deltas[0] == {"reasoning_content": "Hm"} and deltas[1] == {"content": "Hi"}
    assert deltas[2]["tool_calls"][0]["function"]["name"] == "f"
    assert got[-1]["choices"][0]["finish_reason"] == "tool_calls" and usage(got)["credits"] == 3.3
    whole: Any = await Simple().pipe(asked("chunks", stream=False), user, metadata(BASE))
    message = whole["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == ("Hm", "Hi")
    assert message["tool_calls"][0]["function"] == {"name": "f", "arguments": "{}"}
    assert [row["charge"] for row in stage.rows(user["id"])] == [3_300_000] * 2


async def test_lines_of_the_contract_of_0_1(stage: Stage) -> None:
    user = stage.new_user()
    got = await read(await Classic().pipe(asked("lines"), user, metadata(BASE)))
    assert text(got) == "Hi" and usage(got)["credits"] == 3.3
    whole: Any = await Classic().pipe(asked("lines", stream=False), user, metadata(BASE))
    assert whole["choices"][0]["message"]["content"] == "Hi" and whole["usage"]["credits"] == 3.3
    assert json.dumps(whole)


async def test_the_limit_holds_for_pipes_of_ones_own(stage: Stage) -> None:
    user = stage.new_user()
    await Simple().pipe(asked("hello", stream=False), user, metadata(BASE))
    await asyncio.to_thread(TokenTracker(stage.url).log_token_usage, "own", "own-test", user, 10, 66667)
    with pytest.raises(DailyTokenLimitExceededError):
        await Simple().pipe(asked("hello"), user, metadata(BASE))


async def test_what_a_count_leaves_out_is_counted(stage: Stage) -> None:
    """The provider told its input at the beginning, and the answer was stopped."""

    class Early(Simple):
        async def stream(self, body: dict[str, Any], context: StreamContext) -> AsyncIterator[str | dict[str, Any]]:
            context.usage.prompt_tokens = 1000
            async for piece in super().stream(body, context):
                yield piece

    user = stage.new_user()
    stream: Any = await Early().pipe(asked("wait"), user, metadata(BASE))
    for _ in WORDS:
        await anext(stream)
    await stream.aclose()
    (row,) = await until(lambda: stage.rows(user["id"]))
    assert row["input_tokens"] == 1000 and row["output_tokens"] >= 4 and row["estimated"] is not None
