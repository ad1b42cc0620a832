"""The small parts: lines, chunks, amounts, threads, the import."""

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from openwebui_token_tracking import executable, threads
from openwebui_token_tracking.actions.credit_balance import duration
from openwebui_token_tracking.client import encoded, refusal
from openwebui_token_tracking.errors import (
    DailyTokenLimitExceededError,
    LocalError,
    RequestError,
    TotalTokenLimitExceededError,
    shown,
)
from openwebui_token_tracking.pipes import (
    AnthropicTrackedPipe,
    GoogleTrackedPipe,
    MistralTrackedPipe,
    OllamaTrackedPipe,
    OpenAITrackedPipe,
)
from openwebui_token_tracking.pipes.chunks import Answer
from openwebui_token_tracking.pipes.lines import Lines, charged, error, is_error, message_of
from openwebui_token_tracking.pipes.rules import as_credits
from openwebui_token_tracking.pipes.status import amount
from openwebui_token_tracking.pipes.tokens import TokenCount, usage_of

STREAM = 'data: {"a":"ü"}\n\n: a comment\n\nevent: x\ndata: {"b":1}\r\n\r\ndata: [DONE]\n\n'.encode()


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_lines_are_cut_wherever_they_arrive(size: int) -> None:
    lines = Lines()
    pieces = [STREAM[at : at + size] for at in range(0, len(STREAM), size)]
    assert [line for piece in pieces for line in lines.feed(piece)] == [
        'data: {"a":"ü"}',
        'data: {"b":1}',
        "data: [DONE]",
    ]


def test_credits_and_errors_are_recognised_where_they_stand() -> None:
    chunk = {"choices": [], "usage": {"prompt_tokens": 1, "credits": 0.33}}
    assert charged("data: " + json.dumps(chunk).replace(": ", ":")) == {"prompt_tokens": 1, "credits": Decimal("0.33")}
    said = {"choices": [{"delta": {"content": '"usage":{"credits":1},"error"'}}]}
    assert charged("data: " + json.dumps(said)) is None and not is_error("data: " + json.dumps(said))
    failed = 'data: {"error":{"message":"broken","code":"x"}}'
    assert is_error(failed) and message_of(failed) == ("broken", "x")
    assert json.loads(error("ü").removeprefix("data: ")) == {"error": {"message": "ü", "detail": "ü"}}
    assert message_of('data: {"error":"broken"}') == ("broken", None)


@pytest.mark.parametrize(
    ("credits", "text"),
    [
        (0, "0"),
        (3.3, "3.3"),
        (Decimal("1234567.891"), "1,234,567.89"),
        (Decimal("0.000345"), "0.0003"),
        (Decimal("0.000001"), "0.000001"),
        (1000, "1,000"),
        (Decimal("-2.5"), "-2.5"),
    ],
)
def test_amounts_for_people(credits: Any, text: str) -> None:
    assert amount(credits) == text


def test_durations_for_people() -> None:
    assert [duration(seconds) for seconds in (0, 1, 60, 3600, 3661)] == [
        "0 min",
        "1 min",
        "1 min",
        "1 h 0 min",
        "1 h 2 min",
    ]


@pytest.mark.parametrize(
    ("limit", "credits"),
    [
        (None, None),
        (5, 5),
        (2.5, Decimal("2.5")),
        (-1, 0),
        (float("inf"), 10**12),
        (10**30, 10**12),
        ("7", 7),
        (Decimal("0.1234567"), Decimal("0.123457")),
    ],
)
def test_limits_of_trackers(limit: object, credits: object) -> None:
    assert as_credits(limit) == credits


def test_json_keeps_decimals_exact() -> None:
    assert encoded({"a": [Decimal("0.1"), 1, None, True, "ü"], "b": {}}) == '{"a":[0.1,1,null,true,"\\u00fc"],"b":{}}'
    assert encoded(Decimal("1E+3")) == "1000"


def test_refusals_that_are_no_json_are_refusals_too() -> None:
    assert str(refusal(502, b"<html>")) == "The gateway answered with status 502."
    known = refusal(429, b'{"error":{"message":"m","code":"busy"}}')
    assert (known.status, known.code, str(known)) == (429, "busy", "m")
    assert isinstance(shown(known), RequestError)
    assert type(shown(LocalError("Your daily credit limit", 402, "insufficient_quota"))) is DailyTokenLimitExceededError
    assert type(shown(LocalError("The total limit of", 402, "insufficient_quota"))) is TotalTokenLimitExceededError


@pytest.mark.parametrize(
    ("tokens", "counts"),
    [
        (TokenCount(), None),
        (TokenCount(None, None), None),
        (object(), None),
        (TokenCount(10, 5), (10, 5)),
        (TokenCount(10, None), (10, 0)),
        (TokenCount(0, 5), (0, 5)),
    ],
)
def test_a_count_is_reported_if_there_is_one(tokens: object, counts: tuple[int, int] | None) -> None:
    usage = usage_of(tokens)
    assert (usage and (usage["prompt_tokens"], usage["completion_tokens"])) == counts


def test_text_that_looks_like_an_event_is_text_in_the_new_contract() -> None:
    produced, line = Answer("m").take("data: hello", may_be_line=False)
    assert produced == "data: hello" and line is not None
    assert json.loads(line.removeprefix("data: "))["choices"][0]["delta"] == {"content": "data: hello"}
    assert Answer("m").take("data: no json", may_be_line=True) == ("", None)
    with pytest.raises(RequestError, match="full"):
        Answer("m").take({"error": {"message": "full"}}, may_be_line=False)


async def test_a_blocking_iterable_is_closed_in_its_thread_when_nobody_wants_more() -> None:
    closed = asyncio.Event()
    loop, read = asyncio.get_running_loop(), []

    def endless() -> Iterator[int]:
        try:
            for number in range(10**9):
                read.append(number)
                yield number
        finally:
            assert threading.current_thread().name == "token-tracking-stream"
            loop.call_soon_threadsafe(closed.set)

    items = threads.iterate(endless)
    assert [await anext(items) for _ in range(3)] == [0, 1, 2]
    await items.aclose()
    await closed.wait()
    assert len(read) < 10, "little is read ahead"


async def test_exceptions_come_out_of_threads() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise KeyError("a")

    items = threads.iterate(broken)
    assert await anext(items) == 1
    with pytest.raises(KeyError):
        await anext(items)
    with pytest.raises(ValueError):
        await threads.run(int, "x")
    assert await threads.run(int, "7") == 7


@pytest.mark.parametrize(
    ("pipe", "stored"),
    [
        (OpenAITrackedPipe, {"API_KEY": "k", "API_BASE_URL": "http://a/v1", "PROVIDER": "p", "DEBUG": True}),
        (AnthropicTrackedPipe, {"ANTHROPIC_API_KEY": "k", "DEBUG": True}),
        (GoogleTrackedPipe, {"GOOGLE_API_KEY": "k", "USE_PERMISSIVE_SAFETY": True, "DEBUG": True}),
        (MistralTrackedPipe, {"MISTRAL_API_KEY": "k", "DEBUG": True}),
        (OllamaTrackedPipe, {"OLLAMA_BASE_URL": "http://a", "DEBUG": True}),
    ],
)
def test_stored_valves_go_on_working(pipe: Any, stored: dict[str, Any]) -> None:
    made = pipe()
    made.valves = pipe.Valves(**stored, SOMETHING_OLD=1)
    assert {name: getattr(made.valves, name) for name in stored} == stored
    named = made.server()
    assert named["base_url"].startswith("http") and named["api_key"] == stored.get(
        "API_KEY", "k" if pipe is not OllamaTrackedPipe else ""
    )
    assert made.provider_name() == {"OpenAITrackedPipe": "p", "GoogleTrackedPipe": "google_genai"}.get(
        pipe.__name__, made.kind
    )
    keys = [name for name in pipe.Valves.model_json_schema()["properties"] if name.endswith("API_KEY")]
    for name in keys:
        field = pipe.Valves.model_json_schema()["properties"][name]
        assert field["input"] == {"type": "password"} and field["type"] == "string" and "default" not in field


def test_keys_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "from-the-environment")
    assert AnthropicTrackedPipe().valves.ANTHROPIC_API_KEY == "from-the-environment"
    assert "from-the-environment" not in json.dumps(AnthropicTrackedPipe.Valves.model_json_schema())


@pytest.mark.parametrize(
    ("url", "provider", "kind"),
    [
        ("https://api.openai.com/v1", "openai", "openai"),
        ("https://openrouter.ai/api/v1", "openrouter", "openrouter"),
        ("https://me.openai.azure.com/openai/v1", "openai", "azure"),
        ("http://gpu:8000/v1", "vLLM", "vllm"),
        ("https://api.x.ai/v1", "x", "xai"),
        ("https://dashscope-intl.aliyuncs.com/compatible-mode/v1", "qwen", "dashscope"),
        ("https://api.together.xyz/v1", "t", "together"),
        ("https://evil-openrouter.ai/v1", "mine", "openai"),
    ],
)
def test_compatible_servers_are_recognised(url: str, provider: str, kind: str) -> None:
    pipe = OpenAITrackedPipe()
    pipe.valves = pipe.Valves(API_BASE_URL=url, PROVIDER=provider)
    assert pipe.protocol() == kind


def test_more_headers_go_with_each_request() -> None:
    pipe = OpenAITrackedPipe()
    assert "headers" not in pipe.server()
    pipe.valves = pipe.Valves(HEADERS='{"X-Team": "physics"}')
    assert pipe.server()["headers"] == {"X-Team": "physics"}
    for wrong in ("X-Team: physics", "[]", '{"X-Team": 1}'):
        pipe.valves = pipe.Valves(HEADERS=wrong)
        with pytest.raises(RequestError, match="HEADERS") as raised:
            pipe.server()
        assert "physics" not in str(raised.value)


def test_the_package_is_imported_quickly_and_loads_nothing_else() -> None:
    code = """
import sys, time
before = set(sys.modules)
began = time.process_time()
import openwebui_token_tracking
took = time.process_time() - began
new = {name.split(".")[0] for name in set(sys.modules) - before}
print(took, sorted(new & {"aiohttp", "pydantic", "sqlalchemy", "asyncio"}))
import openwebui_token_tracking.pipes, openwebui_token_tracking.actions, openwebui_token_tracking.tracking
print("aiohttp" in sys.modules, "sqlalchemy" in sys.modules)
"""
    run = [sys.executable, "-c", code]
    said = [subprocess.run(run, capture_output=True, text=True, check=True).stdout.splitlines() for _ in range(3)]
    # Processor time, and the best of three: other programs run at the same time.
    assert min(float(lines[0].split()[0]) for lines in said) < 0.05
    assert all(lines[0].endswith(" []") and lines[1] == "False False" for lines in said)


def test_the_command_is_callable_from_python() -> None:
    assert executable.run("--version").startswith("owui-token-tracking ")
    with pytest.raises(RuntimeError, match="nothing.db"):
        executable.run("balance", database_url="sqlite:////nothing.db")
    done = subprocess.run(
        [sys.executable, "-m", "openwebui_token_tracking", "--version"], capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stdout.startswith("owui-token-tracking ")
