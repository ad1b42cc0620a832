"""What the tests of the pipes play on: a database as Open WebUI leaves it, with our tables, prices and sponsors."""

import asyncio
import inspect
import json
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from early import early_zone

from openwebui_token_tracking import executable
from openwebui_token_tracking.pipes import (
    AnthropicTrackedPipe,
    BaseTrackedPipe,
    GoogleTrackedPipe,
    MistralTrackedPipe,
    OllamaTrackedPipe,
    OpenAITrackedPipe,
)

T = TypeVar("T")

CALLS = Path(__file__).with_name("calls")
SCHEMA = [
    'CREATE TABLE "user" (id VARCHAR(255) NOT NULL PRIMARY KEY, name VARCHAR(255), email VARCHAR(255), role VARCHAR(255))',
    "CREATE TABLE model (id TEXT NOT NULL PRIMARY KEY, user_id TEXT, base_model_id TEXT, name TEXT)",
]
# Credits for a million tokens: a thousandth each way is easily checked by eye.
PRICE = {
    "input_cost_credits": 3000,
    "per_input_tokens": 1000000,
    "output_cost_credits": 15000,
    "per_output_tokens": 1000000,
}
ADMINISTRATOR = "an-administrator"
# Allowances over `gpt-test`, by their daily and total limits. Made before the gateway starts, because it takes two seconds
# to notice new ones; each test takes its own.
ALLOWANCES = [(20, 100)] * 12 + [(5, 8), (None, 100), (None, 50)]
# Real time passes in these tests only until something has happened.
PATIENCE = 20.0


@dataclass(frozen=True)
class Vendor:
    """A pipe, with its provider's name, a model, and the valves that say where the simulated server is."""

    pipe: type[BaseTrackedPipe]
    provider: str
    model: str
    key: str
    base_url: str
    path: str

    def made(self, root: str, **valves: Any) -> BaseTrackedPipe:
        """The pipe, set up as Open WebUI does: made once, its valves assigned from what is stored."""
        pipe = self.pipe()
        pipe.valves = pipe.Valves(**{self.base_url: f"{root}/{self.path}", self.key: "a-provider-key", **valves})
        return pipe


OPENAI = Vendor(OpenAITrackedPipe, "openai", "gpt-test", "API_KEY", "API_BASE_URL", "v1")
ANTHROPIC = Vendor(
    AnthropicTrackedPipe, "anthropic", "claude-test", "ANTHROPIC_API_KEY", "ANTHROPIC_API_BASE_URL", "anthropic"
)
GOOGLE = Vendor(
    GoogleTrackedPipe, "google_genai", "gemini-2.5-flash-test", "GOOGLE_API_KEY", "GOOGLE_API_BASE_URL", "google"
)
MISTRAL = Vendor(
    MistralTrackedPipe, "mistral", "mistral-medium-test", "MISTRAL_API_KEY", "MISTRAL_API_BASE_URL", "mistral/v1"
)
OLLAMA = Vendor(OllamaTrackedPipe, "ollama", "llama-test", "OLLAMA_API_KEY", "OLLAMA_BASE_URL", "ollama")
VENDORS = [OPENAI, ANTHROPIC, GOOGLE, MISTRAL, OLLAMA]
OTHERS = [
    ("openai", "gpt-other-test", PRICE),
    ("openai", "gpt-4.1", PRICE),
    ("openai", "free-test", {**PRICE, "input_cost_credits": 0, "output_cost_credits": 0}),
    ("own", "own-test", PRICE),
]


@dataclass
class Stage:
    """A database with what plays on it."""

    url: str
    provider: str
    engine: sa.Engine
    allowances: dict[tuple[int | None, int], list[str]] = field(default_factory=dict)

    @classmethod
    def built(cls, url: str, provider: str, folder: Path) -> "Stage":
        engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"), poolclass=sa.NullPool)
        stage = cls(url, provider, engine)
        with engine.begin() as connection:
            for statement in SCHEMA:
                connection.execute(sa.text(statement))
        stage.write('INSERT INTO "user" VALUES (:id, :id, :id, :role)', id=ADMINISTRATOR, role="admin")
        models = [{"provider": one.provider, "id": one.model, "name": one.model, **PRICE} for one in VENDORS]
        models += [{"provider": name, "id": model, "name": model, **price} for name, model, price in OTHERS]
        prices = folder / "models.json"
        prices.write_text(json.dumps(models))
        stage.command("init", "--model-json", str(prices))
        stage.command("settings", "set", "timezone", early_zone())
        for daily, total in ALLOWANCES:
            stage._grant(f"dept-{uuid.uuid4().hex[:8]}", daily, total)
        # The one of the recorded calls.
        stage._grant("dept", None, 10_000)
        stage.new_workspace_model("dept---dump", "openai.gpt-test", ADMINISTRATOR)
        return stage

    def command(self, *arguments: str) -> str:
        """Runs a command of ours."""
        return executable.run(*arguments, database_url=self.url)

    def write(self, statement: str, **values: object) -> None:
        with self.engine.begin() as connection:
            connection.execute(sa.text(statement), values)

    def rows(self, user: str) -> list[dict[str, Any]]:
        """What the ledger has of a user, oldest first."""
        query = sa.text("SELECT * FROM token_tracking_ledger WHERE user_id = :user ORDER BY id")
        with self.engine.connect() as connection:
            return [dict(row) for row in connection.execute(query, {"user": user}).mappings()]

    def held(self) -> int:
        """How many requests have credits set aside."""
        with self.engine.connect() as connection:
            return int(connection.execute(sa.text("SELECT count(*) FROM token_tracking_hold")).scalar_one())

    def new_user(self, role: str = "user") -> dict[str, Any]:
        """A user of Open WebUI's, as a pipe is told of them."""
        id = str(uuid.uuid4())
        self.write(
            'INSERT INTO "user" VALUES (:id, :name, :email, :role)',
            id=id,
            name="Zoë",
            email=f"{id}@example.org",
            role=role,
        )
        return {"id": id, "name": "Zoë", "email": f"{id}@example.org", "role": role}

    def sponsored(self, daily: int | None, total: int, maker: str = ADMINISTRATOR) -> str:
        """A sponsored allowance over ``gpt-test`` that no other test uses, with a workspace model. Returns its name."""
        name = self.allowances[daily, total].pop()
        self.new_workspace_model(f"{name}---gpt-test", "openai.gpt-test", maker)
        return name

    def _grant(self, name: str, daily: int | None, total: int) -> None:
        limit = ["-d", str(daily)] if daily is not None else []
        self.command(
            *("sponsored", "create", "--sponsor-id", ADMINISTRATOR, "--name", name, "-m", "gpt-test", "-t", str(total)),
            *limit,
        )
        self.allowances.setdefault((daily, total), []).append(name)

    def new_workspace_model(self, id: str, base: str, maker: str) -> None:
        self.write("INSERT INTO model VALUES (:id, :maker, :base, :id)", id=id, maker=maker, base=base)


def body(model: str, directive: str = "", stream: bool = True, **more: Any) -> dict[str, Any]:
    """A request as Open WebUI makes it; the directive tells the simulated server what to do."""
    content = f"Hello [[sim {directive}]]" if directive else "Hello"
    return {"model": model, "messages": [{"role": "user", "content": content}], "stream": stream, **more}


def metadata(base: str, workspace: str | None = None, **more: Any) -> dict[str, Any]:
    """What Open WebUI says beside it: of a chat with a base model, or with a workspace model made of it."""
    named = workspace or base
    info = {"id": named, "base_model_id": base if workspace else None}
    model = {"id": named, "name": named, "info": info, **({"preset": True} if workspace else {})}
    chat = {"chat_id": f"chat-{uuid.uuid4()}", "message_id": f"message-{uuid.uuid4()}", "session_id": "s"}
    return {**chat, "model": model, "model_id": named, **more}


def recorded(name: str, base: str = "dump.one") -> dict[str, Any]:
    """A real call, of a model of that name: its arguments for :meth:`pipe`."""
    text = (CALLS / f"{name}.json").read_text(encoding="utf-8")
    call = json.loads(text.replace("dump.one", base))
    names = ("body", "__user__", "__metadata__", "__task__", "__task_body__")
    return {name: call[name] for name in names}


async def read(stream: Any) -> list[dict[str, Any]]:
    """The events of a stream, as Open WebUI reads its lines."""
    return [event async for event in events(stream)]


async def events(stream: Any) -> Any:
    async for line in stream:
        assert isinstance(line, str) and line.startswith("data:") and "\n" not in line, line
        content = line.removeprefix("data:").strip()
        if content != "[DONE]":
            yield json.loads(content)


def text(events: list[dict[str, Any]]) -> str:
    """The text of a stream."""
    choices = [choice for event in events for choice in event.get("choices", [])]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def usage(events: list[dict[str, Any]]) -> dict[str, Any]:
    """The usage of a stream; there is exactly one."""
    (found,) = [event["usage"] for event in events if event.get("usage")]
    return found


async def until(found: Callable[[], T | Awaitable[T]]) -> T:
    """What ``found`` returns as soon as it is something. For what happens in other processes."""

    async def now() -> T:
        value = found()
        return await value if inspect.isawaitable(value) else value

    last = time.monotonic() + PATIENCE
    while not (value := await now()):
        assert time.monotonic() < last, "it did not happen"
        await asyncio.sleep(0.01)
    return value


class Emitter:
    """Collects what a pipe shows."""

    def __init__(self) -> None:
        self.shown: list[dict[str, Any]] = []

    async def __call__(self, event: dict[str, Any]) -> None:
        self.shown.append(event)

    @property
    def lines(self) -> list[str]:
        return [event["data"]["description"] for event in self.shown if event["data"]["done"]]


Step = Callable[[], Awaitable[None]]
