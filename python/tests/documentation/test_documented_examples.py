"""The complete Functions that the documentation shows, each made and called as Open WebUI does."""

import asyncio
import csv
import json
import threading
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import databases
import pytest
import sqlalchemy as sa

from openwebui_token_tracking import executable

EXAMPLES = Path(__file__).parents[3] / "docs" / "source" / "examples"
MONDAY = date(2026, 1, 5)
ANN = {"id": "ann", "name": "Ann", "email": "ann@example.org", "role": "user"}


class Provider(BaseHTTPRequestHandler):
    """The provider of the examples: says something, piece by piece, then what it used."""

    def do_POST(self) -> None:
        assert self.path == "/chat" and self.headers["Authorization"] == "Bearer a-provider-key"
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        refused = request["messages"][0]["content"] == "Refuse."
        self.send_response(429 if refused else 200)
        self.end_headers()
        if not refused:
            for piece in ({"text": "Good "}, {"text": "morning."}, {"tokens_in": 1000, "tokens_out": 100}):
                self.wfile.write(json.dumps(piece).encode() + b"\n")

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


def priced(provider: str, model: str, input: str, output: str, per: int) -> None:
    """Adds a price."""
    costs = ["--input-cost-credits", input, "--output-cost-credits", output]
    tokens = ["--per-input-tokens", str(per), "--per-output-tokens", str(per)]
    executable.run("pricing", "upsert", model, "--provider", provider, "--name", model, *costs, *tokens)


@pytest.fixture
def example_provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Runs it where the examples look for it."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Provider) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("EXAMPLE_BASE_URL", f"http://127.0.0.1:{server.server_address[1]}")
        yield
        server.shutdown()


def function(name: str) -> dict[str, Any]:
    """A Function's module, from its source as Open WebUI makes it."""
    module: dict[str, Any] = {"__name__": f"function_{name}"}
    exec(compile((EXAMPLES / f"{name}.py").read_text(encoding="utf-8"), name, "exec"), module)
    return module


async def answered(pipe: Any, model: str, content: str = "Hello", stream: bool = True) -> str:
    """A chat's text, or its error."""
    body = {
        "model": f"{pipe.provider_name()}.{model}",
        "stream": stream,
        "messages": [{"role": "user", "content": content}],
    }
    answer = await pipe.pipe(body, __user__=ANN, __metadata__={"chat_id": "chat"})
    if not stream:
        return str(answer["choices"][0]["message"]["content"])
    events = [json.loads(line[6:]) async for line in answer if line.strip() != "data: [DONE]"]
    choices = [choice for event in events for choice in event.get("choices", [])]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def charges(url: str) -> list[int]:
    """What the ledger has, in microcredits."""
    with databases.engine(url).connect() as connection:
        return list(connection.execute(sa.text("SELECT charge FROM token_tracking_ledger ORDER BY id")).scalars())


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("name", ["simple_pipe", "contract_pipe"])
def test_a_pipe_for_another_provider(url: str, name: str, stream: bool, example_provider: None) -> None:
    priced("example", "example-large", "1000", "4000", 1_000_000)
    pipe = function(name)["Pipe"]()
    pipe.valves = pipe.Valves(API_KEY="a-provider-key")
    assert asyncio.run(pipe.pipes()) == [{"id": "example-large", "name": "example-large"}]
    assert asyncio.run(answered(pipe, "example-large", stream=stream)) == "Good morning."
    assert charges(url) == [1_400_000]
    with pytest.raises(Exception, match="answered with status 429"):
        asyncio.run(answered(pipe, "example-large", "Refuse.", stream))
    assert charges(url) == [1_400_000]


@pytest.fixture
def asked(url: str) -> str:
    """The URL of a database with prices of models of the simulated server, which OpenAI's pipe asks; 2 credits a day."""
    executable.run("settings", "set", "base_credit_allowance", "2")
    for model in ("gpt-test", "gpt-4o"):
        priced("openai", model, "1", "1", 1000)
    return url


def made(module: dict[str, Any], provider: str) -> Any:
    """A Function's pipe, with the valves of the simulated server."""
    pipe = module["Pipe"]()
    pipe.valves = pipe.Valves(API_BASE_URL=provider, API_KEY="a-provider-key")
    return pipe


def stop_clock(module: dict[str, Any], name: str, at: date) -> None:
    """Lets a Function's clock stand still."""

    class Stopped:
        today = now = staticmethod(lambda: at)

    module[name] = Stopped


def test_weekends_are_free(asked: str, provider: str) -> None:
    module = function("weekends_free")
    pipe = made(module, provider)
    dear = "[[sim text=Yes input=1000 output=1000]]"
    stop_clock(module, "date", MONDAY)
    assert asyncio.run(answered(pipe, "gpt-test", dear)) == "Yes"
    with pytest.raises(Exception, match="limit is reached"):
        asyncio.run(answered(pipe, "gpt-test", dear))
    stop_clock(module, "date", MONDAY - timedelta(days=1))
    assert asyncio.run(answered(pipe, "gpt-test", dear)) == "Yes"
    assert charges(asked) == [2_000_000, 2_000_000]


def test_one_model_rests_in_the_evening(asked: str, provider: str) -> None:
    module = function("not_in_the_evening")
    pipe = made(module, provider)
    cheap = "[[sim text=Yes input=7 output=3]]"
    stop_clock(module, "datetime", datetime.combine(MONDAY, time(18)))
    with pytest.raises(Exception, match="rests from 18:00"):
        asyncio.run(answered(pipe, "gpt-4o", cheap))
    assert charges(asked) == []
    assert asyncio.run(answered(pipe, "gpt-test", cheap)) == "Yes"
    stop_clock(module, "datetime", datetime.combine(MONDAY, time(17, 59)))
    assert asyncio.run(answered(pipe, "gpt-4o", cheap)) == "Yes"
    assert charges(asked) == [10_000, 10_000]


def test_a_second_log(asked: str, provider: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "usage.csv"
    monkeypatch.setenv("SECOND_LOG", str(log))
    pipe = made(function("second_log"), provider)
    assert asyncio.run(answered(pipe, "gpt-test", "[[sim text=Yes input=7 output=3]]")) == "Yes"
    [[_, *row]] = list(csv.reader(log.open(newline="")))
    assert row == ["ann", "openai", "gpt-test", "7", "3"]
    assert charges(asked) == [10_000]
