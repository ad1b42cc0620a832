"""What the tests talk to, as real processes: a simulated model server, and the gateway on a database of its own."""

import json
import os
import re
import subprocess
import threading
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from early import early_zone

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug"
# The package's own executable, for whatever the tests import of it.
os.environ.setdefault("OWUI_TRACKING_EXECUTABLE", str(PROGRAMS / "owui-token-tracking"))
# Interpreters that tests start find the package too.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT / "python"), os.environ.get("PYTHONPATH")]))
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

    def __init__(self, arguments: list[str], environment: dict[str, str], folder: Path | None = None) -> None:
        self.process = subprocess.Popen(
            arguments, env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
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


def clean_environment() -> dict[str, str]:
    kept = ("PATH", "HOME", "TMPDIR", "RUST_BACKTRACE", "TZ")
    return {name: value for name, value in os.environ.items() if name in kept}


def serve(running: Gateway, folder: Path, models: list[dict], providers: str, settings: dict[str, str]) -> Process:
    """Initialises the database and starts a gateway on it."""
    prices = folder / "models.json"
    prices.write_text(json.dumps(models))
    config = folder / "owui-token-tracking.toml"
    config.write_text(f'[gateway]\nlisten = "127.0.0.1:0"\nkey = "{KEY}"\n{providers}')
    running.run("init", "--create", "--model-json", str(prices))
    for key, value in {"timezone": early_zone(), **settings}.items():
        running.run("settings", "set", key, value)
    process = Process([str(PROGRAMS / "owui-token-tracking"), "serve", "--config", str(config)], running.environment)
    running.url = f"{process.url}/v1"
    return process


def finish(running: Gateway, process: Process) -> None:
    code = process.stop()
    assert code == 0, "".join(process.errors)
    running.run("verify")
