"""Runs a client's script. A cell that takes too long is ended with its process, and the next cell begins in a new one."""

import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clients import HERE, Client

# Seconds: to load a client, for an answer, and until a refusal must have ended it, beyond what an answer takes.
START = 120
ANSWER = 60
CELL = 10


@dataclass(frozen=True)
class Outcome:
    """What came of a cell."""

    shown: str
    failed: bool
    seconds: float
    # Whether it had to be ended.
    ended: bool = False


class Script:
    """A running script."""

    def __init__(self, client: Client, home: Path, environments: Path, surroundings: dict[str, str], job: Any) -> None:
        self.errors = home / "errors.txt"
        with self.errors.open("ab") as errors:
            self.process = subprocess.Popen(
                command(client, home, environments),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=home,
                env={**surroundings, "HOME": str(home)},
                text=True,
                start_new_session=True,
            )
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(job))
        self.process.stdin.close()
        self.lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put("")

    def line(self, seconds: float) -> dict[str, Any] | None:
        """What it says next; nothing if it does not in time."""
        try:
            line = self.lines.get(timeout=seconds)
        except queue.Empty:
            return None
        assert line, f"the script ended: {self.errors.read_text(errors='replace')[-2000:]}"
        said: dict[str, Any] = json.loads(line)
        return said

    def end(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def command(client: Client, home: Path, environments: Path) -> list[str | Path]:
    """What runs a script. Node looks for packages beside it, so it gets a copy beside them."""
    if client.is_command:
        return [sys.executable, HERE / "scripts" / client.script]
    if not client.is_node:
        return [environments / client.environment / "bin/python", HERE / "scripts" / client.script]
    for script in (HERE / "scripts").glob("*.mjs"):
        shutil.copy(script, home)
    packages = home / "node_modules"
    if not packages.is_symlink():
        packages.symlink_to(environments / client.environment / "node_modules")
    return [environments / "node-program", home / client.script]


def outcomes(
    client: Client, home: Path, environments: Path, surroundings: dict[str, str], job: dict[str, Any]
) -> Iterator[tuple[str, Outcome]]:
    """What comes of each cell, as it comes."""
    tasks = list(job["tasks"])
    # A refusal may take so much longer than an answer.
    patience = CELL
    while tasks:
        script = Script(client, home, environments, surroundings, {**job, "tasks": tasks})
        try:
            assert script.line(START) == {"ready": True}
            while tasks:
                cell = tasks[0]["cell"]
                line = script.line(patience if cell in ("limit", "key") else ANSWER)
                tasks.pop(0)
                if line is None:
                    yield cell, Outcome(printed(home), True, CELL, True)
                    break
                assert line["cell"] == cell
                if cell == "plain":
                    patience = CELL + line["seconds"]
                yield cell, Outcome(line["shown"], line["failed"], line["seconds"])
        finally:
            script.end()


def printed(home: Path) -> str:
    """What a command that has not ended has printed so far."""
    return "".join(file.read_text(errors="replace") for file in sorted(home.glob("printed*.txt")))
