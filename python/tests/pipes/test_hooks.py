"""Hooks of version 0.1 that subclasses of the provider's pipes have: each is asked, or refused with a sentence."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from pydantic import BaseModel
from recorder import recording
from stage import ANTHROPIC, GOOGLE, MISTRAL, OPENAI, VENDORS, Emitter, Stage, Vendor, body, metadata, read, text, usage
from test_overrides import BASE, SAID, Copied, answers, off_the_loop, placed, stopped

from openwebui_token_tracking import child
from openwebui_token_tracking.pipes import (
    AnthropicTrackedPipe,
    GoogleTrackedPipe,
    MistralTrackedPipe,
    OpenAITrackedPipe,
    RequestError,
)
from openwebui_token_tracking.pipes.base_tracked_pipe import StreamContext, TokenCount, TokenLimitExceededError
from openwebui_token_tracking.tracking import DailyTokenLimitExceededError, TokenTracker

ORIGINAL = [OPENAI, ANTHROPIC, GOOGLE, MISTRAL]
each_vendor = pytest.mark.parametrize("vendor", VENDORS, ids=lambda vendor: vendor.provider)
each_of_the_original = pytest.mark.parametrize("vendor", ORIGINAL, ids=lambda vendor: vendor.provider)


def base_of(vendor: Vendor) -> str:
    return f"{vendor.provider}.{vendor.model}"


@each_vendor
async def test_headers(stage: Stage, vendor: Vendor) -> None:
    class Pipe(vendor.pipe):  # type: ignore[name-defined,misc]
        def _headers(self) -> dict[str, Any]:
            off_the_loop()
            return {**super()._headers(), "X-Org": "physics", "content-type": "application/json; charset=utf-8"}

    with recording(stage.provider) as recorder:
        pipe = Pipe()
        pipe.valves = pipe.Valves(**{vendor.base_url: f"{recorder.url}/{vendor.path}", vendor.key: "a-provider-key"})
        await answers(stage, pipe, stage.new_user(), base_of(vendor))
        assert recorder.values("X-Org") == ["physics"] * 2


async def test_the_key_is_the_one_in_the_headers(stage: Stage) -> None:
    class Pipe(OpenAITrackedPipe):
        def _headers(self) -> dict[str, Any]:
            return {"Authorization": "Bearer another-key", "Content-Type": "application/json"}

    with recording(stage.provider) as recorder:
        pipe = placed(stage, Pipe())
        pipe.valves.API_BASE_URL = f"{recorder.url}/v1"
        await answers(stage, pipe, stage.new_user())
        assert set(recorder.values("Authorization")) == {"Bearer another-key"}


async def test_headers_that_can_not_be_sent_are_named(stage: Stage) -> None:
    class Basic(OpenAITrackedPipe):
        def _headers(self) -> dict[str, Any]:
            return {"Authorization": "Basic eDp5"}

    class Agent(OpenAITrackedPipe):
        def _headers(self) -> dict[str, Any]:
            return {**super()._headers(), "User-Agent": "ours"}

    for kind, named in ((Basic, "_headers.*Bearer"), (Agent, "user-agent")):
        with pytest.raises(RequestError, match=named):
            await placed(stage, kind()).pipe(body(BASE, SAID), stage.new_user(), metadata(BASE))


@each_of_the_original
async def test_requests_that_call_super(stage: Stage, vendor: Vendor) -> None:
    """The gateway sends, and what the override makes of the answer counts."""

    class Pipe(vendor.pipe):  # type: ignore[name-defined,misc]
        counts: list[Any] = []

        def _headers(self) -> dict[str, Any]:
            return {**super()._headers(), "X-Org": "physics"}

        def _make_stream_request(self, headers: dict[str, Any], payload: dict[str, Any]) -> Any:
            off_the_loop()
            tokens, pieces = super()._make_stream_request({**headers, "X-More": "stream"}, payload)

            def changed() -> Iterator[Any]:
                for piece in pieces:
                    yield piece.replace("answer", "ANSWER")
                self.counts.append((tokens.prompt_tokens, tokens.response_tokens))

            return tokens, changed()

        def _make_non_stream_request(self, headers: dict[str, Any], payload: dict[str, Any]) -> Any:
            off_the_loop()
            tokens, answer = super()._make_non_stream_request({**headers, "X-More": "whole"}, payload)
            self.counts.append((tokens.prompt_tokens, tokens.response_tokens))
            if isinstance(answer, str):
                return tokens, answer.replace("answer", "ANSWER")
            message = answer["choices"][0]["message"]
            message["content"] = message["content"].replace("answer", "ANSWER")
            return tokens, answer

    with recording(stage.provider) as recorder:
        pipe = Pipe()
        pipe.valves = pipe.Valves(**{vendor.base_url: f"{recorder.url}/{vendor.path}", vendor.key: "a-provider-key"})
        got = await answers(stage, pipe, stage.new_user(), base_of(vendor))
        assert [one.startswith("The ANSWER") for one in got] == [True, True]
        assert recorder.values("X-Org") == ["physics"] * 2 and recorder.values("X-More") == ["stream", "whole"]
        assert Pipe.counts == [(1000, 20)] * 2


@each_of_the_original
async def test_stop_within_an_override_is_charged(stage: Stage, vendor: Vendor) -> None:
    class Pipe(vendor.pipe):  # type: ignore[name-defined,misc]
        def _make_stream_request(self, headers: dict[str, Any], payload: dict[str, Any]) -> Any:
            tokens, pieces = super()._make_stream_request(headers, payload)
            return tokens, (piece for piece in pieces)

    row = await stopped(stage, placed(stage, Pipe(), vendor), stage.new_user(), base_of(vendor))
    assert row["outcome"] == "client_gone" and row["output_tokens"] > 0 and row["input_tokens"] > 0


class Around(OpenAITrackedPipe):
    """Overrides that look at what passes."""

    def stream_response(self, *arguments: Any, **named: Any) -> Iterator[Any]:
        off_the_loop()
        for piece in super().stream_response(*arguments, **named):
            yield piece.replace("answer", "ANSWER")

    def non_stream_response(self, *arguments: Any, **named: Any) -> Any:
        answer = super().non_stream_response(*arguments, **named)
        answer["choices"][0]["message"]["content"] = "The ANSWER"
        return answer


async def test_responses_that_call_super(stage: Stage) -> None:
    got = await answers(stage, placed(stage, Around()), stage.new_user())
    assert [one.startswith("The ANSWER") for one in got] == [True, True]
    row = await stopped(stage, placed(stage, Around()), stage.new_user())
    assert row["outcome"] == "client_gone"


class Reporting(OpenAITrackedPipe):
    """Overrides that do all themselves, the report included."""

    def stream_response(
        self, headers: Any, payload: Any, model_id: str, user: Any, sponsored_allowance_name: str | None = None
    ) -> Iterator[Any]:
        tokens, pieces = self._make_stream_request(headers, payload)
        yield from pieces
        self._log_both(model_id, user, tokens, sponsored_allowance_name)

    def non_stream_response(
        self, headers: Any, payload: Any, model_id: str, user: Any, sponsored_allowance_name: str | None = None
    ) -> Any:
        tokens, answer = self._make_non_stream_request(headers, payload)
        self._log_both(model_id, user, tokens, sponsored_allowance_name)
        return answer

    def _make_stream_request(self, headers: Any, payload: Any) -> Any:
        return TokenCount(), iter(["The ", "answer"])

    def _make_non_stream_request(self, headers: Any, payload: Any) -> Any:
        return TokenCount(), "The answer"

    def _log_both(self, model_id: str, user: Any, tokens: Any, sponsored: str | None) -> None:
        log = self.token_tracker.log_token_usage
        for used in (10, 990):
            log(self.provider_name(), model_id, user, used, used // 50, sponsored_allowance_name=sponsored)
        log("own", "own-test", user, 1000, 20)


async def test_a_report_within_a_request_is_its_charge(stage: Stage) -> None:
    """What is reported of another model is charged beside it."""
    user, pipe = stage.new_user(), placed(stage, Reporting())
    got = await read(await pipe.pipe(body(BASE), user, metadata(BASE)))
    whole = await pipe.pipe(body(BASE, stream=False), user, metadata(BASE))
    assert text(got) == whole["choices"][0]["message"]["content"] == "The answer"
    assert usage(got)["prompt_tokens"] == 1000 and usage(got)["completion_tokens"] == 19
    rows = [(row["model"], row["input_tokens"], row["output_tokens"]) for row in stage.rows(user["id"])]
    assert sorted(rows) == [("gpt-test", 1000, 19)] * 2 + [("own-test", 1000, 20)] * 2


async def test_a_tracker_is_told_once(stage: Stage) -> None:
    class Second(TokenTracker):
        told: list[Any] = []

        def log_token_usage(self, *arguments: Any, **named: Any) -> None:
            self.told.append(1)
            super().log_token_usage(*arguments, **named)

    class Counted(Around):
        tracker_class = Second

    await answers(stage, placed(stage, Counted()), stage.new_user())
    assert len(Second.told) == 2
    Second.told.clear()
    pipe = placed(stage, Reporting())
    pipe.token_tracker = Second()
    user = stage.new_user()
    await pipe.pipe(body(BASE, stream=False), user, metadata(BASE))
    assert len(Second.told) == 3 and len(stage.rows(user["id"])) == 2


class Blocks(OpenAITrackedPipe):
    """One model is for teachers."""

    def _check_limits(self, model_id: str, user: Any, sponsored_allowance_name: str | None = None) -> bool:
        off_the_loop()
        if model_id == "gpt-test":
            raise TokenLimitExceededError("for teachers only")
        return super()._check_limits(model_id, user, sponsored_allowance_name)


async def test_check_limits_blocks(stage: Stage) -> None:
    pipe, user = placed(stage, Blocks()), stage.new_user()
    for stream in (True, False):
        with pytest.raises(TokenLimitExceededError, match="for teachers"):
            await pipe.pipe(body(BASE, SAID, stream=stream), user, metadata(BASE))
    assert stage.rows(user["id"]) == []
    other = "openai.gpt-other-test"
    await answers(stage, pipe, user, other)
    await asyncio.to_thread(TokenTracker(stage.url).log_token_usage, "own", "own-test", user, 10, 70000)
    with pytest.raises(DailyTokenLimitExceededError):
        await pipe.pipe(body(other, SAID), user, metadata(other))


async def test_check_limits_without_super_decides_alone(stage: Stage) -> None:
    class Lenient(OpenAITrackedPipe):
        def _check_limits(self, model_id: str, user: Any, sponsored_allowance_name: str | None = None) -> bool:
            return True

    user = stage.new_user()
    await asyncio.to_thread(TokenTracker(stage.url).log_token_usage, "own", "own-test", user, 10, 70000)
    await placed(stage, Lenient()).pipe(body(BASE, SAID, stream=False), user, metadata(BASE))
    assert len(stage.rows(user["id"])) == 2


async def test_what_remains(stage: Stage) -> None:
    class Nothing(TokenTracker):
        def _remaining_user_credits(self, user: Any, sponsored_allowance_id: Any) -> int:
            return 0 if user["role"] == "user" else super()._remaining_user_credits(user, sponsored_allowance_id)

    class Pipe(OpenAITrackedPipe):
        def __init__(self) -> None:
            super().__init__()
            self.token_tracker = Nothing()

    pipe = placed(stage, Pipe())
    with pytest.raises(DailyTokenLimitExceededError):
        await pipe.pipe(body(BASE, SAID), stage.new_user(), metadata(BASE))
    await answers(stage, pipe, stage.new_user("admin"))


class Duck:
    """No tracker of ours, but with its methods."""

    def __init__(self) -> None:
        self.left, self.told = 5, list[Any]()

    def is_paid(self, model_id: str) -> bool:
        return True

    def remaining_credits(self, user: Any, sponsored_allowance_name: str | None = None) -> Any:
        off_the_loop()
        return self.left, None

    def max_credits(self, user: Any, sponsored_allowance_name: str | None = None) -> int:
        return 1

    def get_models(self, provider: str | None = None) -> Any:
        return [type("Model", (), {"id": "gpt-test", "name": "Ours"})()]

    def log_token_usage(self, **told: Any) -> None:
        self.told.append((told["model_id"], told["prompt_tokens"], told["response_tokens"]))
        self.left -= 3


async def test_a_tracker_that_is_none_of_ours(stage: Stage) -> None:
    pipe, user = placed(stage, OpenAITrackedPipe()), stage.new_user()
    pipe.token_tracker = duck = Duck()
    assert await pipe.pipes() == [{"id": "gpt-test", "name": "Ours"}]
    await answers(stage, pipe, user)
    assert duck.told == [("gpt-test", 1000, 20)] * 2
    with pytest.raises(DailyTokenLimitExceededError):
        await pipe.pipe(body(BASE, SAID), user, metadata(BASE))


@pytest.mark.parametrize("vendor", [ANTHROPIC, MISTRAL], ids=lambda vendor: vendor.provider)
async def test_url(stage: Stage, vendor: Vendor) -> None:
    path = "/v1/messages" if vendor is ANTHROPIC else "/chat/completions"

    class Pipe(vendor.pipe):  # type: ignore[name-defined,misc]
        address = ""

        def __init__(self) -> None:
            super().__init__()
            assert self.url.startswith("https://api.") and self.url.endswith(path)
            self.url = self.address

    with recording(stage.provider) as recorder:
        Pipe.address = f"{recorder.url}/{vendor.path}{path}"
        pipe = Pipe()
        pipe.valves = pipe.Valves(**{vendor.key: "a-provider-key"})
        assert pipe.url == Pipe.address
        await answers(stage, pipe, stage.new_user(), base_of(vendor))
        assert len(recorder.requests) == 2
    Pipe.address = "https://proxy.example.org/chat"
    with pytest.raises(ValueError, match="Pipe.url.*must end in.*valve"):
        Pipe()


async def test_valves_of_ones_own(stage: Stage) -> None:
    """As in 0.1, without those that are new."""

    class Pipe(OpenAITrackedPipe):
        class Valves(BaseModel):
            API_KEY: str = "a-provider-key"
            API_BASE_URL: str = ""
            PROVIDER: str = "openai"
            DEBUG: bool = False

    await answers(stage, placed(stage, Pipe()), stage.new_user())


class Between:
    """Not a pipe, but put before one."""

    def pipe(self, body: Any, __user__: Any, __metadata__: Any) -> Any:
        off_the_loop()
        if "joke" in str(body["messages"]):
            return "no jokes"
        return super().pipe(body, __user__, __metadata__)  # type: ignore[misc]


class Mixed(Between, OpenAITrackedPipe):
    def pipes(self) -> Any:
        off_the_loop()
        return [{**model, "name": "ours"} for model in super().pipes() if model["id"] == "gpt-test"]


async def test_a_synchronous_pipe_on_a_provider(stage: Stage) -> None:
    pipe, user = placed(stage, Mixed()), stage.new_user()
    assert await pipe.pipes() == [{"id": "gpt-test", "name": "ours"}]
    joke = {**body(BASE), "messages": [{"role": "user", "content": "a joke"}]}
    assert await pipe.pipe(joke, user, metadata(BASE)) == "no jokes"
    await answers(stage, pipe, user)
    row = await stopped(stage, pipe, stage.new_user())
    assert row["outcome"] == "client_gone" and row["output_tokens"] > 0


async def test_a_generator_as_pipe(stage: Stage) -> None:
    class Pipe(OpenAITrackedPipe):
        def pipe(self, body: Any, __user__: Any, __metadata__: Any) -> Any:
            yield "data: " + '{"choices": [{"index": 0, "delta": {"content": "First: "}}]}'
            yield from super().pipe(body, __user__, __metadata__)

    user = stage.new_user()
    pipe = placed(stage, Pipe())
    assert text(await read(await pipe.pipe(body(BASE, SAID), user, metadata(BASE)))).startswith("First: The answer")
    assert [row["charge"] for row in stage.rows(user["id"])] == [3_300_000]
    row = await stopped(stage, pipe, stage.new_user())
    assert row["outcome"] == "client_gone" and row["output_tokens"] > 0


async def test_an_asynchronous_pipe_that_does_not_wait(stage: Stage) -> None:
    class Pipe(OpenAITrackedPipe):
        async def pipes(self) -> Any:
            return super().pipes()

        async def pipe(self, body: Any, __user__: Any, __metadata__: Any) -> Any:
            return super().pipe(body, __user__, __metadata__)

    pipe = placed(stage, Pipe())
    assert {"id": "gpt-test", "name": "gpt-test"} in await pipe.pipes()
    await answers(stage, pipe, stage.new_user())


async def test_an_override_of_an_override(stage: Stage) -> None:
    class Pipe(Mixed):
        def pipes(self) -> Any:
            return [*super().pipes(), {"id": "more", "name": "More"}]

        def pipe(self, body: Any, __user__: Any, __metadata__: Any, __event_emitter__: Any = None) -> Any:
            return super().pipe(body, __user__, __metadata__)

    pipe = placed(stage, Pipe())
    assert [model["id"] for model in await pipe.pipes()] == ["gpt-test", "more"]
    await answers(stage, pipe, stage.new_user())


async def test_errors_pass_through_a_synchronous_pipe(stage: Stage) -> None:
    pipe, user = placed(stage, Mixed()), stage.new_user()
    await asyncio.to_thread(TokenTracker(stage.url).log_token_usage, "own", "own-test", user, 10, 70000)
    for stream in (True, False):
        with pytest.raises(DailyTokenLimitExceededError):
            await pipe.pipe(body(BASE, SAID, stream=stream), user, metadata(BASE))
    with pytest.raises(RequestError):
        await pipe.pipe(body(BASE, "status=500"), stage.new_user(), metadata(BASE))


def test_what_can_not_be_is_refused_when_the_class_is_made() -> None:
    def method(self: Any, *arguments: Any) -> Any:
        return arguments

    def send(self: Any, headers: Any, payload: Any) -> Any:
        return TokenCount(), payload["messages"]

    for pipe, name, function in (
        (AnthropicTrackedPipe, "_process_image", method),
        (AnthropicTrackedPipe, "_process_messages", method),
        (MistralTrackedPipe, "_handle_response", method),
        (AnthropicTrackedPipe, "_make_stream_request", send),
        (GoogleTrackedPipe, "_make_non_stream_request", send),
        (GoogleTrackedPipe, "stream_response", send),
    ):
        with pytest.raises(TypeError, match=f"Pipe.{name} .*_payload"):
            type("Pipe", (pipe,), {name: function})
        # With a form of its own it is as good as a pipe of one's own.
        type("Pipe", (pipe,), {name: function, "_payload": lambda self, model_id, body: body})
    type("Pipe", (OpenAITrackedPipe,), {"_make_stream_request": send})
    for name in ("_calc_credits_from_tokens",):
        with pytest.raises(TypeError, match=f"Tracker.{name} .*price"):
            type("Tracker", (TokenTracker,), {name: method})


async def test_a_gateway_that_others_run_takes_none_of_it(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    class Pipe(OpenAITrackedPipe):
        def _headers(self) -> dict[str, Any]:
            return {"X-Org": "physics"}

    monkeypatch.setenv("OWUI_TRACKING_URL", "http://127.0.0.1:9")
    with pytest.raises(RequestError, match="_headers.*OWUI_TRACKING_URL"):
        await placed(stage, Pipe()).pipe(body(BASE, SAID), stage.new_user(), metadata(BASE))
    # An override of something else hands on the usual headers.
    assert Around()._named(child.gateway(), Around()._headers()) == {}


async def test_the_line_below_an_answer_that_the_gateway_sent(stage: Stage) -> None:
    emitter = Emitter()
    pipe = placed(stage, Around())
    await read(await pipe.pipe(body(BASE, SAID), stage.new_user(), metadata(BASE), __event_emitter__=emitter))
    assert emitter.lines[0].startswith("3.3 credits used, 996.7 left")


async def test_the_new_contract_on_a_providers_pipe(stage: Stage) -> None:
    class Pipe(OpenAITrackedPipe):
        async def stream(self, body: dict[str, Any], context: StreamContext) -> AsyncIterator[str | dict[str, Any]]:
            yield "The answer"
            context.usage.prompt_tokens, context.usage.response_tokens = 1000, 20

    assert await answers(stage, placed(stage, Pipe()), stage.new_user()) == ["The answer"] * 2


async def test_a_report_to_another_database_is_no_report_of_the_request(stage: Stage) -> None:
    class Elsewhere(Reporting):
        def _log_both(self, model_id: str, user: Any, tokens: Any, sponsored: str | None) -> None:
            self.token_tracker.log_token_usage(self.provider_name(), model_id, user, 1000, 20)
            TokenTracker(stage.url).log_token_usage(self.provider_name(), model_id, user, 7, 7)

    user = stage.new_user()
    await placed(stage, Elsewhere()).pipe(body(BASE, stream=False), user, metadata(BASE))
    assert sorted(row["input_tokens"] for row in stage.rows(user["id"])) == [7, 1000]


def alone(kind: Any) -> Any:
    """A pipe that asks for its limits and sends, all by itself."""

    class Alone(kind):  # type: ignore[misc]
        def pipe(self, body: dict[str, Any], __user__: Any, __metadata__: Any) -> Any:
            off_the_loop()
            self.provider = "openai"
            self._check_limits("gpt-test", __user__)
            asked = self._headers(), self._payload("gpt-test", body), "gpt-test", __user__
            return self.stream_response(*asked) if body["stream"] else self.non_stream_response(*asked)

    return Alone()


@pytest.mark.parametrize("kind", [Copied, OpenAITrackedPipe, Around])
async def test_a_pipe_that_does_all_itself(stage: Stage, kind: Any) -> None:
    user, pipe = stage.new_user(), placed(stage, alone(kind))
    # As Open WebUI calls it.
    stream = await pipe.pipe(body=body(BASE, SAID), __user__=user, __metadata__=metadata(BASE))
    got = "".join([line async for line in stream])
    assert got.count("data: [DONE]") == 1 and ("ANSWER" in got) == (kind is Around) and "answer" in got.lower()
    whole = await pipe.pipe(body=body(BASE, SAID, stream=False), __user__=user, __metadata__=metadata(BASE))
    assert whole["choices"]
    rows = stage.rows(user["id"])
    assert [(row["charge"], row["outcome"], bool(row["chat_id"])) for row in rows] == [(3_300_000, "complete", True)] * 2
    assert stage.held() == 0
    row = await stopped(stage, placed(stage, alone(kind)), stage.new_user())
    assert row["outcome"] == "client_gone" and row["output_tokens"] > 0
    with pytest.raises(RequestError):
        await pipe.pipe(body=body(BASE, "status=500", stream=False), __user__=user, __metadata__=metadata(BASE))
    await asyncio.to_thread(TokenTracker(stage.url).log_token_usage, "own", "own-test", user, 10, 70000)
    with pytest.raises(DailyTokenLimitExceededError):
        await pipe.pipe(body=body(BASE, SAID), __user__=user, __metadata__=metadata(BASE))


async def test_a_providers_pipe_sends_only_within_a_request(stage: Stage) -> None:
    pipe, user = placed(stage, OpenAITrackedPipe()), stage.new_user()
    asked = pipe._headers(), pipe._payload("gpt-test", body(BASE, SAID)), "gpt-test", user
    with pytest.raises(RequestError, match="only while pipe"):
        await asyncio.to_thread(pipe.non_stream_response, *asked)
