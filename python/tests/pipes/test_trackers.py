"""Rules of one's own: what a pipe asks of a tracker, and that it asks nothing else."""

import asyncio
import functools
import threading
import uuid
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from stage import OPENAI, Stage, body, events, metadata, read, text, until
from test_own import Simple

from openwebui_token_tracking import TokenTracker
from openwebui_token_tracking.errors import LocalError
from openwebui_token_tracking.pipes import BaseTrackedPipe, OpenAITrackedPipe, RequestError
from openwebui_token_tracking.tracking import (
    DailyTokenLimitExceededError,
    ModelRequest,
    TokenLimitExceededError,
    TotalTokenLimitExceededError,
)

BASE = "openai.gpt-test"


def made(stage: Stage, tracker: type[TokenTracker]) -> OpenAITrackedPipe:
    """As a Function says it: a pipe with a tracker."""

    class Pipe(OpenAITrackedPipe):
        tracker_class = tracker

    pipe = Pipe()
    pipe.valves = pipe.Valves(API_BASE_URL=f"{stage.provider}/v1", API_KEY="a-provider-key")
    return pipe


async def ask(
    pipe: BaseTrackedPipe, user: dict[str, Any], directive: str = "input=1000 output=20", base: str = BASE
) -> Any:
    return await pipe.pipe(body(base, directive, stream=False), user, metadata(base))


class WeekendsFree(TokenTracker):
    """On weekends nobody's own limit counts."""

    today = datetime(2026, 11, 28)  # a Saturday

    def is_paid(self, model_id: str) -> bool:
        return self.today.weekday() < 5 and super().is_paid(model_id)


async def test_weekends_are_free(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    user, pipe = stage.new_user(), made(stage, WeekendsFree)
    await ask(pipe, user, "input=10 output=70000")
    answer = await ask(pipe, user)
    assert answer["usage"]["credits"] == 3.3, "it is charged all the same"
    monkeypatch.setattr(WeekendsFree, "today", datetime(2026, 11, 30))
    with pytest.raises(DailyTokenLimitExceededError):
        await ask(pipe, user)
    assert len(stage.rows(user["id"])) == 2


class NotInTheEvening(TokenTracker):
    """One model is for working hours."""

    hour = 17

    def admit(self, request: ModelRequest) -> None:
        if request.model_id == "gpt-test" and self.hour >= 18 and request.user["role"] != "admin":
            raise RequestError("gpt-test can be used until 18:00; gpt-other-test is there all night.")


async def test_a_model_is_blocked_after_18_o_clock(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    user, pipe = stage.new_user(), made(stage, NotInTheEvening)
    await ask(pipe, user)
    monkeypatch.setattr(NotInTheEvening, "hour", 18)
    with pytest.raises(RequestError, match="until 18:00"):
        await ask(pipe, user)
    await ask(pipe, user, base="openai.gpt-other-test")
    assert [row["model"] for row in stage.rows(user["id"])] == ["gpt-test", "gpt-other-test"]
    await ask(pipe, stage.new_user("admin"))


class SecondLog(TokenTracker):
    """Notes every charge elsewhere too."""

    notes: list[tuple[Any, ...]] = []

    def log_token_usage(
        self,
        provider: str,
        model_id: str,
        user: Mapping[str, Any],
        prompt_tokens: int,
        response_tokens: int,
        sponsored_allowance_name: str | None = None,
    ) -> None:
        super().log_token_usage(provider, model_id, user, prompt_tokens, response_tokens, sponsored_allowance_name)
        self.notes.append(
            (
                threading.get_ident(),
                user["id"],
                provider,
                model_id,
                prompt_tokens,
                response_tokens,
                sponsored_allowance_name,
            )
        )

    @classmethod
    def of(cls, user: dict[str, Any]) -> list[tuple[Any, ...]]:
        return [note[2:] for note in cls.notes if note[1] == user["id"]]


async def test_a_second_log_sees_every_charge_once(stage: Stage) -> None:
    user, pipe = stage.new_user(), made(stage, SecondLog)
    await ask(pipe, user)
    stream = await pipe.pipe(body(BASE, "input=500 output=10"), user, metadata(BASE))
    assert text(await read(stream))
    assert SecondLog.of(user) == [("openai", "gpt-test", 1000, 20, None), ("openai", "gpt-test", 500, 10, None)]
    assert threading.get_ident() not in {note[0] for note in SecondLog.notes}, "off the event loop"
    assert [row["charge"] for row in stage.rows(user["id"])] == [3_300_000, 1_650_000], "charged once"


async def test_a_second_log_sees_what_was_stopped_and_what_broke(stage: Stage) -> None:
    user, pipe = stage.new_user(), made(stage, SecondLog)
    seen: list[Any] = []

    async def chat() -> None:
        async for event in events(await pipe.pipe(body(BASE, "output=10000 delay=20"), user, metadata(BASE))):
            seen.append(event)

    task = asyncio.ensure_future(chat())
    await until(lambda: len(seen) >= 3)
    task.cancel()
    await until(lambda: SecondLog.of(user))
    await read(await pipe.pipe(body(BASE, "output=50 delay=5 fault=disconnect at=10"), user, metadata(BASE)))
    rows = stage.rows(user["id"])
    assert [note[2:4] for note in SecondLog.of(user)] == [(row["input_tokens"], row["output_tokens"]) for row in rows]
    assert len(rows) == 2


async def test_a_second_log_sees_sponsors_and_pipes_of_ones_own(stage: Stage) -> None:
    user, name = stage.new_user(), stage.sponsored(20, 100)
    said = metadata(BASE, f"{name}---gpt-test")
    await made(stage, SecondLog).pipe(body(BASE, "input=1000 output=20", stream=False), user, said)
    own = Simple()
    own.token_tracker = SecondLog(stage.url)
    hello = {**body("own.own-test", stream=False), "messages": [{"role": "user", "content": "hello"}]}
    await own.pipe(hello, user, metadata("own.own-test"))
    assert SecondLog.of(user) == [("openai", "gpt-test", 1000, 20, name), ("own", "own-test", 1000, 20, None)]
    assert len(stage.rows(user["id"])) == 2


class BrokenLog(TokenTracker):
    def log_token_usage(self, *args: Any, **kwargs: Any) -> None:
        raise ConnectionError("the other log is away")


async def test_a_log_that_fails_harms_no_answer(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    user = stage.new_user()
    assert (await ask(made(stage, BrokenLog), user))["choices"]
    assert "BrokenLog" in caplog.text and len(stage.rows(user["id"])) == 1


class Generous(TokenTracker):
    def max_credits(self, user: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        usual = super().max_credits(user, *args, **kwargs)
        assert usual == 1000
        return usual * 2 if user["role"] == "teacher" else 2.5


async def test_the_limit_comes_from_the_tracker(stage: Stage) -> None:
    pipe, teacher, pupil = made(stage, Generous), stage.new_user("teacher"), stage.new_user()
    answer = await ask(pipe, teacher, "input=10 output=70000")
    assert 900 < answer["usage"]["credits_remaining"] < 1000
    await ask(pipe, teacher)
    await ask(pipe, pupil)
    with pytest.raises(DailyTokenLimitExceededError, match=r"2\.5 credits"):
        await ask(pipe, pupil)
    own = Simple()
    own.token_tracker = Generous(stage.url)
    hello = {**body("own.own-test", stream=False), "messages": [{"role": "user", "content": "hello"}]}
    with pytest.raises(TokenLimitExceededError):
        await own.pipe(hello, pupil, metadata("own.own-test"))


class Empty(TokenTracker):
    total: int | None = None

    def remaining_credits(
        self, user: Mapping[str, Any], sponsored_allowance_name: str | None = None
    ) -> tuple[int, int | None]:
        return 0, self.total


async def test_remaining_credits_is_a_gate(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    user, pipe = stage.new_user(), made(stage, Empty)
    with pytest.raises(DailyTokenLimitExceededError):
        await ask(pipe, user)
    monkeypatch.setattr(Empty, "total", 0)
    with pytest.raises(TotalTokenLimitExceededError):
        await ask(pipe, user)
    assert stage.rows(user["id"]) == []


class Selected(TokenTracker):
    def get_models(self, provider: str | None = None, id: str | None = None) -> Any:
        return [model for model in super().get_models(provider, id) if model.id != "free-test"]


async def test_the_list_of_models_comes_from_the_tracker(stage: Stage) -> None:
    names = [model["id"] for model in await made(stage, Selected).pipes()]
    assert "gpt-test" in names and "free-test" not in names


async def test_overrides_that_block_do_not_block_the_loop(stage: Stage) -> None:
    gate = threading.Event()

    class Slow(TokenTracker):
        def admit(self, request: ModelRequest) -> None:
            gate.wait(30)

    slow = [asyncio.ensure_future(ask(made(stage, Slow), stage.new_user())) for _ in range(40)]
    await ask(OPENAI.made(stage.provider), stage.new_user())
    gate.set()
    await asyncio.gather(*slow)


def test_in_a_script(stage: Stage) -> None:
    tracker, user = TokenTracker(stage.url), stage.new_user()
    assert {model.id for model in tracker.get_models("OpenAI")} >= {"gpt-test", "free-test"}
    assert [model.provider for model in tracker.get_models(id="own-test")] == ["own"]
    assert tracker.is_paid("gpt-test") and not tracker.is_paid("free-test")
    with pytest.raises(RuntimeError, match="gpt-unknown"):
        tracker.is_paid("gpt-unknown")
    assert tracker.max_credits(user) == 1000 and tracker.remaining_credits(user) == (1000, None)
    tracker.log_token_usage("openai", "gpt-test", user, 100, 10)
    assert tracker.remaining_credits(user) == (999, None), "999.55, rounded down"
    name = stage.sponsored(20, 100)
    tracker.log_token_usage("openai", "gpt-test", user, 1000, 1800, name)
    assert tracker.remaining_credits(user, name) == (-10, 70)
    assert [row["charge"] for row in stage.rows(user["id"])] == [450_000, 30_000_000]
    for wrong in (
        lambda: tracker.remaining_credits(user, "nothing"),
        lambda: tracker.log_token_usage("openai", "gpt-test", user, 1, 1, "nothing"),
    ):
        with pytest.raises(KeyError, match="nothing"):
            wrong()
    # What has happened is recorded all the same: on the user there, and on an allowance that does not cover the model.
    assert [row["charge"] for row in stage.rows(user["id"])][2:] == [18_000]
    tracker.log_token_usage("own", "own-test", user, 1000, 0, name)
    assert [row["outcome"] for row in stage.rows(user["id"])][2:] == ["not_allowed"] * 2
    assert tracker.remaining_credits(user, name) == (-13, 67)
    tracker.log_token_usage("openai", "unheard-of", {"id": "somebody-else"}, 7, 5)
    assert [row["input_tokens"] for row in stage.rows("somebody-else")] == [7]
    with pytest.raises(RuntimeError):
        tracker.max_credits(user, "a", "b")
    # As in 0.1, whoever is unknown has what everybody has.
    assert tracker.max_credits({"id": "nobody"}) == 1000 and tracker.remaining_credits({"id": "nobody"}) == (1000, None)
    assert tracker.max_credits({"id": "somebody-else"}) == 1000
    assert TokenTracker().remaining_credits(user) == (999, None), "the environment names the same database"
    with tracker.db_engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM token_tracking_model_pricing").scalar_one() > 0


def test_tokens_as_the_original_took_them(stage: Stage) -> None:
    """Nothing that has happened is refused; what can't have happened is, and is not recorded."""
    tracker, user = TokenTracker(stage.url), stage.new_user()
    log = functools.partial(tracker.log_token_usage, "openai", "gpt-test", user)
    log(1000.0, 20.4)
    log(Decimal("999.6"), None)
    log(None, None)
    tracker.log_token_usage("openai", "no-price", {"id": uuid.UUID(user["id"])}, 5, 5)
    rows = stage.rows(user["id"])
    assert [(row["input_tokens"], row["output_tokens"]) for row in rows] == [(1000, 20), (1000, 0), (0, 0), (5, 5)]
    assert [(row["charge"], row["outcome"]) for row in rows][3] == (0, "not_allowed")
    for wrong in (-1, -0.6, float("nan"), float("inf"), "many", 10**30):
        for tokens in ((wrong, 1), (1, wrong)):
            with pytest.raises(ValueError):
                log(*tokens)
    with pytest.raises(ValueError):
        tracker.log_token_usage("openai", "gpt-test", {"id": "a\nb"}, 1, 1)
    assert len(stage.rows(user["id"])) == 4


async def test_what_a_tracker_raises_is_pythons_own(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    away = TokenTracker("sqlite:////nowhere/at/all.db")
    for ask_it in (lambda: away.get_models(), lambda: away.is_paid("x"), lambda: away.max_credits({"id": "x"})):
        with pytest.raises(ConnectionError) as caught:
            await asyncio.to_thread(ask_it)
        assert not isinstance(caught.value, LocalError)
    with pytest.raises(ConnectionError):
        await asyncio.to_thread(away.log_token_usage, "openai", "gpt-test", {"id": "x"}, 1, 1)

    class Asks(TokenTracker):
        def admit(self, request: ModelRequest) -> None:
            away.max_credits(dict(request.user))

    # Users read what is made for them.
    with pytest.raises(RequestError) as shown:
        await ask(made(stage, Asks), stage.new_user())
    assert "sqlite:" not in str(shown.value)
