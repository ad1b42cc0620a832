"""What the scripts of command lines share: a command runs in an empty folder, and a person sees what it prints."""

import os
import subprocess
import tempfile
from pathlib import Path

from cells import JOB, Task

HOME = Path.home()
# Where npm or pip put its commands.
PROGRAMS = JOB["programs"]
# What the command that runs has printed so far, for when it does not end.
PRINTED = HOME / "printed.txt"
ERRORS = HOME / "printed-errors.txt"


class Failed(Exception):
    """The command ended with an error."""


def shown(name: str, *arguments: str, **variables: str) -> str:
    """What a command prints."""
    with PRINTED.open("wb") as printed, ERRORS.open("wb") as errors:
        done = subprocess.run(
            [f"{PROGRAMS}/{name}", *arguments],
            env={**os.environ, "PYTHONUNBUFFERED": "1", **variables},
            cwd=tempfile.mkdtemp(dir=HOME),
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=errors,
            check=False,
        )
    if done.returncode != 0:
        raise Failed(ERRORS.read_text(errors="replace") + PRINTED.read_text(errors="replace"))
    return PRINTED.read_text(errors="replace").strip()


def command_of(task: Task, tool: str, argument: str, **more: str) -> str:
    """Asks for a command of the shell; what it prints is what the tool says."""
    told = {argument: f"echo It rains in Bern. {task.result}", **more}
    arguments = " | ".join(f"{name}={value}" for name, value in told.items())
    return f"Run a command and say what it prints. [[call {tool}: {arguments} end]]"
