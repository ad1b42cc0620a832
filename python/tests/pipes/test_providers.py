"""Each pipe through the real gateway to a simulated server: what Open WebUI gets, and what is charged."""

import asyncio
from decimal import Decimal
from typing import Any

import pytest
from stage import (
    OPENAI,
    VENDORS,
    Emitter,
    Stage,
    Vendor,
    body,
    events,
    metadata,
    read,
    text,
    until,
    usage,
)

from openwebui_token_tracking.pipes import RequestError
from openwebui_token_tracking.tracking import DailyTokenLimitExceededError

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": "Tells it",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
    for name in ("get_weather", "get_time")
]

each_vendor = pytest.mark.parametrize("vendor", VENDORS, ids=lambda vendor: vendor.provider)


@each_vendor
async def test_lists_the_models_with_a_price(stage: Stage, vendor: Vendor) -> None:
    models = await vendor.made(stage.provider).pipes()
    assert {"id": vendor.model, "name": vendor.model} in models
    assert all("own-test" != model["id"] for model in models)


@each_vendor
async def test_a_stream(stage: Stage, vendor: Vendor) -> None:
    user, base = stage.new_user(), f"{vendor.provider}.{vendor.model}"
    said = metadata(base)
    stream = await vendor.made(stage.provider).pipe(body(base, "input=1000 output=20"), user, said)
    got = await read(stream)
    assert text(got).startswith("The answer")
    assert usage(got)["credits"] == 3.3 and usage(got)["credits_remaining"] == 996.7
    (row,) = stage.rows(user["id"])
    assert (row["charge"], row["input_tokens"], row["output_tokens"]) == (3_300_000, 1000, 20)
    assert (row["provider"], row["model"], row["estimated"]) == (vendor.provider, vendor.model, None)
    assert (row["chat_id"], row["message_id"], row["task"]) == (said["chat_id"], said["message_id"], None)


@each_vendor
async def test_a_whole_answer(stage: Stage, vendor: Vendor) -> None:
    user, base = stage.new_user(), f"{vendor.provider}.{vendor.model}"
    asked = body(base, "input=1000 output=20", stream=False)
    answer: Any = await vendor.made(stage.provider).pipe(asked, user, metadata(base))
    assert answer["choices"][0]["message"]["content"].startswith("The answer")
    assert answer["usage"]["credits"] == 3.3
    assert [row["charge"] for row in stage.rows(user["id"])] == [3_300_000]


@each_vendor
async def test_tools(stage: Stage, vendor: Vendor) -> None:
    user, base = stage.new_user(), f"{vendor.provider}.{vendor.model}"
    pipe = vendor.made(stage.provider)
    got = await read(await pipe.pipe(body(base, "tool=1 input=50 output=10", tools=TOOLS), user, metadata(base)))
    deltas = [choice["delta"] for event in got for choice in event.get("choices", [])]
    calls = [call for delta in deltas for call in delta.get("tool_calls") or []]
    assert "".join(call["function"].get("name") or "" for call in calls) == "get_weather"
    reasons = [choice.get("finish_reason") for event in got for choice in event.get("choices", [])]
    assert "tool_calls" in reasons
    whole: Any = await pipe.pipe(body(base, "tool=1", stream=False, tools=TOOLS), user, metadata(base))
    assert whole["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "get_weather"
    assert len(stage.rows(user["id"])) == 2


@each_vendor
async def test_stop_is_charged(stage: Stage, vendor: Vendor) -> None:
    user, base = stage.new_user(), f"{vendor.provider}.{vendor.model}"
    pipe = vendor.made(stage.provider)
    seen: list[dict[str, Any]] = []

    async def chat() -> None:
        stream = await pipe.pipe(body(base, "input=1000 output=10000 delay=20"), user, metadata(base))
        async for event in events(stream):
            seen.append(event)

    task = asyncio.ensure_future(chat())
    await until(lambda: len(seen) >= 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (row,) = await until(lambda: stage.rows(user["id"]))
    assert row["outcome"] == "client_gone" and row["estimated"] is not None
    assert 0 < row["output_tokens"] < 1000 and row["charge"] > 0


@each_vendor
async def test_an_error_before_the_answer_is_raised(stage: Stage, vendor: Vendor) -> None:
    user, base = stage.new_user(), f"{vendor.provider}.{vendor.model}"
    pipe = vendor.made(stage.provider)
    for stream in (True, False):
        with pytest.raises(RequestError) as caught:
            await pipe.pipe(body(base, "status=500", stream), user, metadata(base))
        assert "a-provider-key" not in str(caught.value) and "{" not in str(caught.value)
    assert stage.rows(user["id"]) == []


@each_vendor
async def test_an_error_within_the_answer_is_shown_and_charged(stage: Stage, vendor: Vendor) -> None:
    user, base = stage.new_user(), f"{vendor.provider}.{vendor.model}"
    asked = body(base, "output=50 delay=5 fault=disconnect at=10")
    got = await read(await vendor.made(stage.provider).pipe(asked, user, metadata(base)))
    assert text(got)
    (error,) = [event["error"] for event in got if "error" in event]
    assert error["message"] == error["detail"] != ""
    (row,) = stage.rows(user["id"])
    assert row["charge"] > 0 and row["estimated"] is not None


async def test_the_limit_is_raised_with_what_to_do(stage: Stage) -> None:
    user, pipe = stage.new_user(), OPENAI.made(stage.provider)
    await pipe.pipe(body("openai.gpt-test", "input=10 output=66667", stream=False), user, metadata("openai.gpt-test"))
    with pytest.raises(DailyTokenLimitExceededError, match=r"1,?000.* It resets at .*free-test"):
        await pipe.pipe(body("openai.gpt-test"), user, metadata("openai.gpt-test"))
    free = await pipe.pipe(body("openai.free-test"), user, metadata("openai.free-test"))
    assert usage(await read(free))["credits"] == 0


async def test_unknown_models_and_users_are_refused(stage: Stage) -> None:
    pipe = OPENAI.made(stage.provider)
    with pytest.raises(RequestError, match="no price"):
        await pipe.pipe(body("openai.gpt-unknown"), stage.new_user(), metadata("openai.gpt-unknown"))
    with pytest.raises(RequestError, match="no user"):
        await pipe.pipe(body("openai.gpt-test"), {"id": "nobody"}, metadata("openai.gpt-test"))
    with pytest.raises(RequestError, match="who asks"):
        await pipe.pipe(body("openai.gpt-test"), {}, metadata("openai.gpt-test"))


async def test_changed_valves_count_at_once(stage: Stage) -> None:
    user, pipe = stage.new_user(), OPENAI.made(stage.provider, API_KEY="")
    with pytest.raises(RequestError):
        await pipe.pipe(body("openai.gpt-test"), user, metadata("openai.gpt-test"))
    stored = {"API_KEY": "sk-1", "API_BASE_URL": f"{stage.provider}/v1", "PROVIDER": "OpenAI", "DEBUG": True, "OLD": 1}
    pipe.valves = pipe.Valves(**stored)
    assert text(await read(await pipe.pipe(body("openai.gpt-test"), user, metadata("openai.gpt-test"))))


async def test_a_provider_that_hangs_disturbs_nobody(stage: Stage) -> None:
    user, pipe = stage.new_user(), OPENAI.made(stage.provider)
    hung = [
        asyncio.ensure_future(
            pipe.pipe(body("openai.gpt-test", "fault=hang"), stage.new_user(), metadata("openai.gpt-test"))
        )
        for _ in range(8)
    ]
    assert text(await read(await pipe.pipe(body("openai.gpt-test"), user, metadata("openai.gpt-test"))))
    impatient = OPENAI.made(stage.provider, FIRST_BYTE_TIMEOUT=1, IDLE_TIMEOUT=1)
    with pytest.raises(RequestError, match="silent"):
        await read_or_raise(
            await impatient.pipe(body("openai.gpt-test", "fault=hang"), user, metadata("openai.gpt-test"))
        )
    for one in hung:
        one.cancel()
    await asyncio.gather(*hung, return_exceptions=True)
    await until(lambda: stage.held() == 0)


async def read_or_raise(stream: Any) -> None:
    for event in await read(stream):
        if "error" in event:
            raise RequestError(event["error"]["message"])


async def test_credits_are_shown_after_chats_and_not_after_tasks(stage: Stage) -> None:
    user, pipe, emitter = stage.new_user(), OPENAI.made(stage.provider), Emitter()
    asked, said = body("openai.gpt-test", "input=1000 output=20"), metadata("openai.gpt-test")
    await read(await pipe.pipe(asked, user, said, __event_emitter__=emitter))
    (line,) = emitter.lines
    assert line.startswith("3.3 credits used, 996.7 left until 20")
    await pipe.pipe({**asked, "stream": False}, user, said, __event_emitter__=emitter)
    assert emitter.lines[1].startswith("3.3 credits used, 993.4 left until 20")
    await pipe.pipe({**asked, "stream": False}, user, said, "title_generation", {}, emitter)
    silent = OPENAI.made(stage.provider, SHOW_CREDITS=False)
    await read(await silent.pipe(asked, user, said, __event_emitter__=emitter))
    assert len(emitter.lines) == 2
    charges = [Decimal(row["charge"]) / 1_000_000 for row in stage.rows(user["id"])]
    assert charges == [Decimal("3.3")] * 4


async def test_an_emitter_that_fails_harms_nothing(stage: Stage) -> None:
    async def broken(event: dict[str, Any]) -> None:
        raise ConnectionError("the browser is gone")

    asked = body("openai.gpt-test", "input=1000 output=20")
    stream = await OPENAI.made(stage.provider).pipe(
        asked, stage.new_user(), metadata("openai.gpt-test"), __event_emitter__=broken
    )
    assert usage(await read(stream))["credits"] == 3.3
