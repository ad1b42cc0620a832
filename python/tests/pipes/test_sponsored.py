"""Sponsored allowances and tasks through the pipes: who pays, and what the ledger says of it."""

import asyncio
import uuid
from typing import Any

import pytest
from stage import OPENAI, Emitter, Stage, body, metadata, read, text, until, usage

from openwebui_token_tracking.actions import CreditBalance
from openwebui_token_tracking.pipes import RequestError
from openwebui_token_tracking.tracking import (
    DailyTokenLimitExceededError,
    TokenTracker,
    TotalTokenLimitExceededError,
)

BASE = "openai.gpt-test"
LARGE = "input=1000 output=20"


async def test_the_sponsor_pays(stage: Stage) -> None:
    user, emitter = stage.new_user(), Emitter()
    name = stage.sponsored(20, 100)
    said = metadata(BASE, f"{name}---gpt-test")
    got = await read(await OPENAI.made(stage.provider).pipe(body(BASE, LARGE), user, said, __event_emitter__=emitter))
    assert usage(got)["credits"] == 3.3 and usage(got)["credits_remaining"] == 16.7
    (line,) = emitter.lines
    assert line.startswith(f"3.3 credits used, 16.7 left of {name} until 20")
    (row,) = stage.rows(user["id"])
    assert row["sponsored_id"] is not None and row["workspace_model"] == f"{name}---gpt-test"
    tracker = TokenTracker(stage.url)
    remaining = await asyncio.to_thread(tracker.remaining_credits, user)
    assert remaining == (1000, None), "the user's own day is untouched"
    assert await asyncio.to_thread(tracker.remaining_credits, user, name) == (16, 96)
    assert await asyncio.to_thread(tracker.max_credits, user, name) == 20


async def test_limits_of_the_sponsor(stage: Stage) -> None:
    pipe, name = OPENAI.made(stage.provider), stage.sponsored(5, 8)
    said = metadata(BASE, f"{name}---gpt-test")
    user, other = stage.new_user(), stage.new_user()
    spend = body(BASE, "input=1000 output=134", stream=False)  # 5.01 credits
    await pipe.pipe(spend, user, said)
    with pytest.raises(DailyTokenLimitExceededError, match="sponsored"):
        await pipe.pipe(spend, user, said)
    await pipe.pipe(spend, other, said)
    with pytest.raises(TotalTokenLimitExceededError, match="total"):
        await pipe.pipe(spend, stage.new_user(), said)


@pytest.mark.parametrize("daily", [None, 20])
async def test_models_that_are_not_covered_are_refused(stage: Stage, daily: int | None) -> None:
    pipe, name = OPENAI.made(stage.provider), stage.sponsored(daily, 100)
    stage.new_workspace_model(f"{name}---other", "openai.gpt-other-test", "an-administrator")
    with pytest.raises(RequestError, match="does not cover") as caught:
        await pipe.pipe(
            body("openai.gpt-other-test"), stage.new_user(), metadata("openai.gpt-other-test", f"{name}---other")
        )
    assert caught.value.code == "not_sponsored"


async def test_its_models_are_models_of_their_own(stage: Stage) -> None:
    """Listed for all, because Open WebUI keeps one list; refused to who is no member."""
    user, pipe, emitter = stage.new_user(), OPENAI.made(stage.provider), Emitter()
    name = f"Own {stage.sponsored(20, 100)}"
    stage.command("sponsored", "create", "--sponsor-id", "dean", "--name", name, "-m", "gpt-test", "-t", "100", "-d", "20",
                  "--member-user", str(user["id"]))  # fmt: skip
    own = f"sponsored/{name.replace(' ', '-')}/gpt-test"

    async def is_listed() -> bool:
        return {"id": own, "name": f"{name} - gpt-test"} in await pipe.pipes()

    await until(is_listed)
    asked = f"openai.{own}"
    got = await read(await pipe.pipe(body(asked, LARGE), user, metadata(asked), __event_emitter__=emitter))
    assert usage(got)["credits"] == 3.3 and usage(got)["credits_remaining"] == 16.7
    (line,) = emitter.lines
    assert line.startswith(f"3.3 credits used, 16.7 left of {name} until 20")
    with pytest.raises(RequestError, match="members"):
        await pipe.pipe(body(asked), stage.new_user(), metadata(asked))


async def test_a_users_own_workspace_model_opens_nothing(stage: Stage) -> None:
    user, name = stage.new_user(), stage.sponsored(20, 100)
    stage.new_workspace_model(f"{name}---mine", BASE, user["id"])
    with pytest.raises(RequestError, match="administrator"):
        await OPENAI.made(stage.provider).pipe(body(BASE), user, metadata(BASE, f"{name}---mine"))
    assert stage.rows(user["id"]) == []


async def test_tasks_are_labelled_and_paid_like_their_chat(stage: Stage) -> None:
    user, pipe = stage.new_user(), OPENAI.made(stage.provider)
    name = stage.sponsored(20, 100)
    said = metadata(BASE, f"{name}---gpt-test", message_id=None)
    del said["model_id"]
    chat = {"model": f"{name}---gpt-test", "chat_id": said["chat_id"]}
    answer: Any = await pipe.pipe(body(BASE, stream=False), user, said, "title_generation", chat)
    assert answer["choices"][0]["message"]["content"]
    # The administrator's task model, which the sponsor does not pay.
    await pipe.pipe(body("openai.gpt-other-test", stream=False), user, said, "tags_generation", chat)
    first, second = stage.rows(user["id"])
    assert (first["task"], second["task"]) == ("title_generation", "tags_generation")
    assert first["chat_id"] == second["chat_id"] == said["chat_id"]
    assert first["sponsored_id"] is not None and second["sponsored_id"] is None
    assert first["workspace_model"] == second["workspace_model"] == f"{name}---gpt-test"


async def test_two_models_side_by_side(stage: Stage) -> None:
    """Both calls describe the first model; each is answered and charged as itself."""
    user, pipe = stage.new_user(), OPENAI.made(stage.provider)
    name = stage.sponsored(20, 100)
    said = metadata(BASE, f"{name}---gpt-test")
    first, second = await asyncio.gather(
        pipe.pipe(body(BASE, LARGE), user, said),
        pipe.pipe(
            body("openai.gpt-other-test", "input=10 output=2"), user, {**said, "model_id": "openai.gpt-other-test"}
        ),
    )
    got = await asyncio.gather(read(first), read(second))
    assert [text(events)[:10] for events in got] == ["The answer", "The answer"]
    rows = {row["model"]: row for row in stage.rows(user["id"])}
    assert rows["gpt-test"]["charge"] == 3_300_000 and rows["gpt-test"]["sponsored_id"] is not None
    assert rows["gpt-other-test"]["charge"] == 60_000 and rows["gpt-other-test"]["sponsored_id"] is None


async def test_the_balance_button(stage: Stage) -> None:
    user, emitter, pipe = stage.new_user(), Emitter(), OPENAI.made(stage.provider)
    name, hidden = stage.sponsored(20, 100), stage.sponsored(20, 100)
    open_ended = stage.sponsored(None, 50)
    await pipe.pipe(body(BASE, LARGE, stream=False), user, metadata(BASE))
    await pipe.pipe(body(BASE, LARGE, stream=False), user, metadata(BASE, f"{name}---gpt-test"))
    asked = {"model": f"{open_ended}---gpt-test", "messages": []}
    assert await CreditBalance().action(asked, user, {}, emitter) is asked
    (line,) = emitter.lines
    own, *sponsored = line.split(" | ")
    assert own.startswith("Credits today: 996.7 of 1,000 left (reset at 20") and own.endswith(" min)")
    assert sorted(sponsored) == sorted(
        [f"{name}: 16.7 of 20 left today, 96.7 of 100 left in all", f"{open_ended}: 50 of 50 left in all"]
    )
    assert hidden not in line
    assert [event["data"]["done"] for event in emitter.shown] == [False, True]


async def test_limits_of_the_week_and_the_month(stage: Stage) -> None:
    user, emitter, group = stage.new_user(), Emitter(), f"group-{uuid.uuid4()}"
    stage.command("credit-group", "create", group, "0", "Seldom", "--weekly", "5", "--monthly", "70.5")
    stage.command("credit-group", "add-user", user["id"], group)
    await CreditBalance().action({"model": "a", "messages": []}, user, {}, emitter)
    today, week, month = emitter.lines[-1].split(" | ")
    assert today.startswith("Credits today: 1,000 of 1,000 left (reset at 20")
    assert week.startswith("this week: 5 of 5 left (reset at 20") and week.endswith(" min)")
    assert month.startswith("this month: 70.5 of 70.5 left (reset at 20")
    assert await asyncio.to_thread(TokenTracker().remaining_credits, user) == (5, None)


async def test_the_balance_button_says_what_is_wrong(stage: Stage) -> None:
    emitter = Emitter()
    await CreditBalance().action({"model": "a"}, {"id": "nobody"}, {}, emitter)
    assert "nobody" in emitter.lines[0]
    assert await CreditBalance().action({"model": "a"}, None, None, None) == {"model": "a"}
