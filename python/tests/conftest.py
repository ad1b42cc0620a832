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


@pytest.fixture(scope="session", params=["sqlite", "postgres"])
def gateway(request, provider: str, tmp_path_factory) -> Iterator[Gateway]:
    """A gateway on a fresh database, with prices for three models."""
    folder = tmp_path_factory.mktemp("gateway")
    environment = {
        name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "TMPDIR", "RUST_BACKTRACE", "TZ")
    }
    schema = None
    if request.param == "sqlite":
        database = folder / "tracking.db"
        environment["DATABASE_URL"] = f"sqlite:///{database}"
    else:
        server = os.environ["OWUI_TEST_POSTGRES"]
        schema = f"python_{uuid.uuid4().hex}"
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f'CREATE SCHEMA "{schema}"')
        environment["DATABASE_URL"] = server
        environment["DATABASE_SCHEMA"] = schema
    models = folder / "models.json"
    models.write_text(json.dumps(MODELS))
    config = folder / "owui-token-tracking.toml"
    config.write_text(
        f"""
[gateway]
listen = "127.0.0.1:0"
key = "{KEY}"

[[provider]]
name = "openai"
kind = "openai"
base_url = "{provider}"
api_key = "a-provider-key"
"""
    )
    running = Gateway("", environment)
    running.run("init", "--model-json", str(models))
    process = Process([str(PROGRAMS / "owui-token-tracking"), "serve", "--config", str(config)], environment)
    running.url = f"{process.url}/v1"
    yield running
    code = process.stop()
    assert code == 0, "".join(process.errors)
    running.run("verify")
    if schema is not None:
        with psycopg.connect(os.environ["OWUI_TEST_POSTGRES"], autocommit=True) as connection:
            connection.execute(f'DROP SCHEMA "{schema}" CASCADE')
