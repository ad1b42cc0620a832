"""Starts what the tests talk to: a simulated model server, and the gateway on each database, both as real processes."""

import json
import os
import re
import subprocess
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug"
# The package's own executable, for whatever the tests import of it.
os.environ.setdefault("OWUI_TRACKING_EXECUTABLE", str(PROGRAMS / "owui-token-tracking"))
KEY = "a-forwarding-key-for-tests"
MODELS = [
    {
        "id": "gpt-test",
        "provider": "openai",
        "name": "Test model",
        "input_cost_credits": 3000,
        "per_input_tokens": 1000000,
        "output_cost_credits": 15000,
        "per_output_tokens": 1000000,
    },
    {
        "id": "embedding-test",
        "provider": "openai",
        "name": "Test embeddings",
        "input_cost_credits": 100,
        "per_input_tokens": 1000000,
        "output_cost_credits": 0,
        "per_output_tokens": 1000000,
    },
    {
        "id": "free-test",
        "provider": "openai",
        "name": "Free model",
        "input_cost_credits": 0,
        "per_input_tokens": 1000000,
        "output_cost_credits": 0,
        "per_output_tokens": 1000000,
    },
]




@dataclass(frozen=True)
class Column:
    """A provider with its models, as the matrix of features shows it."""

    name: str
    kind: str
    path: str
    chat: str
    # The same as for chats if the provider has none.
    embedding: str


def compatible(kind: str) -> Column:
    return Column(kind, kind, "v1", f"{kind}-chat-test", f"{kind}-embedding-test")


COLUMNS = [
    Column("openai", "openai", "v1", "gpt-test", "embedding-test"),
    Column("azure", "azure", "azure", "azure-gpt-test", "azure-embedding-test"),
    Column("anthropic", "anthropic", "anthropic", "claude-sonnet-4-5-test", "claude-sonnet-4-5-test"),
    Column("anthropic-new", "anthropic", "anthropic", "claude-opus-4-7-test", "claude-opus-4-7-test"),
    Column("google", "google", "google", "gemini-2.5-flash-test", "gemini-embedding-001"),
    Column("google-new", "google", "google", "gemini-3-flash-test", "gemini-embedding-001"),
    Column("mistral", "mistral", "mistral/v1", "mistral-medium-3-5-test", "mistral-embed-test"),
    Column("ollama", "ollama", "ollama", "llama-test", "embed-test"),
    *(compatible(kind) for kind in ("openrouter", "deepseek", "groq", "vllm", "tgi", "litellm")),
]
# Credits for a million tokens of each class.
PRICES = {"input": 3000, "cached_input": 300, "cache_write": 3750, "output": 15000, "reasoning": 20000}
# What the matrix came to: by feature and column.
MATRIX: dict[str, dict[str, str]] = {}


class Process:
    """A program of ours that says on its first line where it listens."""

    def __init__(self, arguments: list[str], environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None and self.process.stderr is not None
        self.errors: list[str] = []
        errors = self.process.stderr
        self.reader = threading.Thread(target=lambda: self.errors.extend(errors), daemon=True)
        self.reader.start()
        line = self.process.stdout.readline()
        found = re.search(r"http://[0-9.]+:[0-9]+", line)
        if found is None:
            self.process.wait(timeout=30)
            self.reader.join(timeout=10)
            raise RuntimeError(f"{arguments[0]} did not start: {line}{''.join(self.errors)}")
        self.url = found.group()

    def stop(self) -> int:
        """Ends it as a supervisor would and returns its exit code."""
        self.process.terminate()
        code = self.process.wait(timeout=60)
        self.reader.join(timeout=10)
        return code


@dataclass
class Gateway:
    """A running gateway with its database."""

    url: str
    environment: dict[str, str]
    users: list[str] = field(default_factory=list)

    def run(self, *arguments: str) -> str:
        """Runs a command of ours on the same database."""
        done = subprocess.run(
            [PROGRAMS / "owui-token-tracking", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def json(self, *arguments: str):
        return json.loads(self.run(*arguments, "--format", "json"))

    def new_user(self) -> str:
        """A user nobody has heard of before."""
        user = f"user-{uuid.uuid4()}"
        self.users.append(user)
        return user


@pytest.fixture(scope="session")
def provider() -> Iterator[str]:
    """The base URL of a simulated model server."""
    process = Process([str(PROGRAMS / "simulated-provider")], dict(os.environ))
    yield f"{process.url}/v1"
    process.stop()


def clean_environment() -> dict[str, str]:
    kept = ("PATH", "HOME", "TMPDIR", "RUST_BACKTRACE", "TZ")
    return {name: value for name, value in os.environ.items() if name in kept}


def serve(running: Gateway, folder: Path, models: list[dict], providers: str, settings: dict[str, str]) -> Process:
    """Initialises the database and starts a gateway on it."""
    prices = folder / "models.json"
    prices.write_text(json.dumps(models))
    config = folder / "owui-token-tracking.toml"
    config.write_text(f'[gateway]\nlisten = "127.0.0.1:0"\nkey = "{KEY}"\n{providers}')
    running.run("init", "--model-json", str(prices))
    for key, value in settings.items():
        running.run("settings", "set", key, value)
    process = Process([str(PROGRAMS / "owui-token-tracking"), "serve", "--config", str(config)], running.environment)
    running.url = f"{process.url}/v1"
    return process


def finish(running: Gateway, process: Process) -> None:
    code = process.stop()
    assert code == 0, "".join(process.errors)
    running.run("verify")


@pytest.fixture(scope="session", params=["sqlite", "postgres"])
def gateway(request, provider: str, tmp_path_factory) -> Iterator[Gateway]:
    """A gateway on a fresh database, with prices for three models."""
    folder = tmp_path_factory.mktemp("gateway")
    environment = clean_environment()
    schema = None
    if request.param == "sqlite":
        environment["DATABASE_URL"] = f"sqlite:///{folder / 'tracking.db'}"
    else:
        server = os.environ["OWUI_TEST_POSTGRES"]
        schema = f"python_{uuid.uuid4().hex}"
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f'CREATE SCHEMA "{schema}"')
        environment["DATABASE_URL"] = server
        environment["DATABASE_SCHEMA"] = schema
    running = Gateway("", environment)
    table = f"""
[[provider]]
name = "openai"
kind = "openai"
base_url = "{provider}"
api_key = "a-provider-key"
"""
    process = serve(running, folder, MODELS, table, {})
    yield running
    finish(running, process)
    if schema is not None:
        with psycopg.connect(os.environ["OWUI_TEST_POSTGRES"], autocommit=True) as connection:
            connection.execute(f'DROP SCHEMA "{schema}" CASCADE')


@pytest.fixture(scope="session")
def everywhere(provider: str, tmp_path_factory) -> Iterator[Gateway]:
    """A gateway in front of every kind of provider, each with prices for its models."""
    folder = tmp_path_factory.mktemp("everywhere")
    running = Gateway("", {**clean_environment(), "DATABASE_URL": f"sqlite:///{folder / 'tracking.db'}"})
    root = provider.removesuffix("/v1")
    providers, models = {}, {}
    for column in COLUMNS:
        providers[column.kind] = (
            f'[[provider]]\nname = "{column.kind}"\nkind = "{column.kind}"\nbase_url = "{root}/{column.path}"\n'
            'api_key = "a-provider-key"\n'
        )
        for model in (column.chat, column.embedding):
            costs = {f"{name}_cost_credits": credits for name, credits in PRICES.items()}
            models[column.kind, model] = {
                "id": model,
                "provider": column.kind,
                "name": model,
                "per_input_tokens": 1000000,
                "per_output_tokens": 1000000,
                "max_output_tokens": 16000,
                **costs,
            }
    settings = {"base_credit_allowance": "1000000"}
    process = serve(running, folder, list(models.values()), "".join(providers.values()), settings)
    yield running
    finish(running, process)


def pytest_terminal_summary(terminalreporter) -> None:
    """Prints what each provider can do through us. What is not a plain yes or no is spelled out below the table."""
    if not MATRIX:
        return
    terminalreporter.section("features by provider")
    names = [column.name for column in COLUMNS]
    first = max(len(feature) for feature in MATRIX)
    notes: list[str] = []
    terminalreporter.write_line(" ".join([" " * first, *names]))
    for feature, cells in MATRIX.items():
        row = [feature.ljust(first)]
        for name in names:
            cell = cells.get(name, "")
            kind, _, what = cell.partition(": ")
            if what:
                if cell not in notes:
                    notes.append(cell)
                kind = f"{kind[:3]}.{notes.index(cell) + 1}"
            row.append(kind.ljust(len(name)))
        terminalreporter.write_line(" ".join(row).rstrip())
    for number, note in enumerate(notes, 1):
        terminalreporter.write_line(f"{note[:3]}.{number}  {note}")
