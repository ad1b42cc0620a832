"""Pipes as people wrote them for version 0.1: each override does what it did, off the event loop, and Stop is charged."""

import asyncio
import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel
from stage import OPENAI, Stage, Vendor, body, metadata, read, text, until, usage

from openwebui_token_tracking.pipes.base_tracked_pipe import BaseTrackedPipe, TokenCount

BASE = "openai.gpt-test"
SAID = "input=1000 output=20"


def off_the_loop() -> None:
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()


class Copied(BaseTrackedPipe):
    """Made after the original's pipe for OpenAI: synchronous throughout, and sends by itself."""

    class Valves(BaseModel):
        API_KEY: str = "a-provider-key"
        API_BASE_URL: str = ""
        PROVIDER: str = "openai"
        DEBUG: bool = False

    def __init__(self) -> None:
        super().__init__(provider="", url="")
        self.sent: list[dict[str, Any]] = []

    def pipes(self) -> Any:
        off_the_loop()
        self.provider = self.valves.PROVIDER  # type: ignore[attr-defined]
        return super().pipes()

    def pipe(self, body: dict[str, Any], __user__: Any, __metadata__: Any) -> Any:
        off_the_loop()
        self.provider = self.valves.PROVIDER  # type: ignore[attr-defined]
        return super().pipe(body, __user__, __metadata__)

    def _headers(self) -> dict[str, Any]:
        return {"Authorization": f"Bearer {self.valves.API_KEY}"}  # type: ignore[attr-defined]

    def _payload(self, model_id: str, body: dict[str, Any]) -> dict[str, Any]:
        return {**body, "model": model_id}

    def _post(self, headers: dict[str, Any], payload: dict[str, Any]) -> Any:
        off_the_loop()
        self.sent.append(payload)
        address = f"{self.valves.API_BASE_URL}/chat/completions"  # type: ignore[attr-defined]
        headers = {**headers, "Content-Type": "application/json"}
        return urllib.request.urlopen(
            urllib.request.Request(address, json.dumps(payload).encode(), headers), timeout=30
        )

    def _make_stream_request(
        self, headers: dict[str, Any], payload: dict[str, Any]
    ) -> tuple[TokenCount, Iterator[Any]]:
        tokens = TokenCount()

        def pieces() -> Iterator[Any]:
            with self._post(headers, {**payload, "stream_options": {"include_usage": True}}) as answer:
                for line in answer:
                    line = line.strip().decode()
                    if line.startswith("data: {"):
                        told = json.loads(line[6:]).get("usage") or {}
                        tokens.prompt_tokens = told.get("prompt_tokens", tokens.prompt_tokens)
                        tokens.response_tokens = told.get("completion_tokens", tokens.response_tokens)
                    yield line

        return tokens, pieces()

    def _make_non_stream_request(self, headers: dict[str, Any], payload: dict[str, Any]) -> tuple[TokenCount, Any]:
        with self._post(headers, payload) as answer:
            made = json.load(answer)
        return TokenCount(made["usage"]["prompt_tokens"], made["usage"]["completion_tokens"]), made


def placed(stage: Stage, pipe: Any, vendor: Vendor = OPENAI) -> Any:
    """With the valves that say where the simulated server is."""
    pipe.valves = pipe.Valves(**{vendor.base_url: f"{stage.provider}/{vendor.path}", vendor.key: "a-provider-key"})
    return pipe


async def answers(stage: Stage, pipe: Any, user: dict[str, Any], base: str = BASE) -> list[Any]:
    """A stream and a whole answer, each of which costs 3.3 credits."""
    got = await read(await pipe.pipe(body(base, SAID), user, metadata(base)))
    whole = await pipe.pipe(body(base, SAID, stream=False), user, metadata(base))
    assert usage(got)["credits"] == whole["usage"]["credits"] == 3.3
    assert [row["charge"] for row in stage.rows(user["id"])] == [3_300_000] * 2
    assert stage.held() == 0
    return [text(got), whole["choices"][0]["message"]["content"]]


async def test_a_copied_pipe(stage: Stage) -> None:
    pipe = placed(stage, Copied())
    assert asyncio.iscoroutinefunction(pipe.pipes) and asyncio.iscoroutinefunction(pipe.pipe)
    assert {"id": "gpt-test", "name": "gpt-test"} in await pipe.pipes()
    streamed, whole = await answers(stage, pipe, stage.new_user())
    assert streamed and whole and len(pipe.sent) == 2


async def stopped(stage: Stage, pipe: Any, user: dict[str, Any], base: str = BASE) -> dict[str, Any]:
    """Reads the beginning of a stream that never ends, presses Stop, and returns what was charged."""
    seen: list[Any] = []

    async def chat() -> None:
        asked = body(base, "input=1000 output=400 fault=hang at=10")
        async for line in await pipe.pipe(asked, user, metadata(base)):
            seen.append(line)

    task = asyncio.ensure_future(chat())
    await until(lambda: len(seen) >= 6)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (row,) = await until(lambda: stage.rows(user["id"]))
    await until(lambda: stage.held() == 0)
    return dict(row)


async def test_stop_of_a_copied_pipe_is_charged(stage: Stage) -> None:
    row = await stopped(stage, placed(stage, Copied()), stage.new_user())
    assert row["outcome"] == "client_gone" and row["output_tokens"] > 0
