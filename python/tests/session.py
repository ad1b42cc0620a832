"""Replays a transcript of a terminal: the commands of a page are typed again, and the page is made anew from what they say.

Blocks of the language `console` hold commands behind `$` and what they print. What differs from run to run (dates, times, ids,
the gateway's port) always is the same in the page.
"""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from programs import PROGRAMS, Process

BLOCK = re.compile(r"(?<=^```console\n).*?(?=^```$)", re.MULTILINE | re.DOTALL)
# Where a gateway listens if nothing else is said, as the page has it.
USUAL = "127.0.0.1:8787"
ID, DAY, TIME = "01938f2b7c4d7e5f8a9b0c1d2e3f4a5b", "2026-11-24", "09:41:00"
# What stands in for the Python package: its executable, as built here.
PIP = """#!/bin/sh
ln -sf "{program}" "{folder}/owui-token-tracking"
"""


class Session:
    """A shell with a working folder, of which each command is a process of its own."""

    def __init__(self, folder: Path, provider: str) -> None:
        self.folder = folder
        programs = folder / "bin"
        programs.mkdir()
        pip = programs / "pip"
        pip.write_text(PIP.format(program=PROGRAMS / "owui-token-tracking", folder=programs))
        pip.chmod(0o755)
        self.environment = {
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "TZ": "UTC",
            "USER": "carla",
            "COLUMNS": "110",
            "OPENAI_API_BASE_URL": provider,
            "OWUI_TRACKING_LISTEN": "127.0.0.1:0",
        }
        self.gateway: Process | None = None

    def type(self, command: str) -> str:
        """What a command prints."""
        if assigned := re.fullmatch(r"export (\w+)=(\S+)", command):
            self.environment[assigned[1]] = assigned[2]
            return ""
        if command.endswith(" &"):
            arguments = command.removesuffix(" &").split()
            program = str(self.folder / "bin" / arguments[0])
            self.gateway = Process([program, *arguments[1:]], self.environment, self.folder)
            return f"listening on http://{USUAL}\n"
        if command == "kill %1":
            assert self.gateway is not None and self.gateway.stop() == 0
            return ""
        where = self.gateway.url.removeprefix("http://") if self.gateway else USUAL
        done = subprocess.run(
            ["bash", "-c", command.replace(USUAL, where)],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}"
        return steady(done.stdout.replace(where, USUAL))

    def end(self) -> None:
        """Ends what it started."""
        if self.gateway is not None and self.gateway.process.poll() is None:
            self.gateway.stop()


def steady(text: str) -> str:
    """A text without what differs from run to run. Everything stays as long as it was: tables keep their shape."""
    text = re.sub(r"\b[0-9a-f]{32}\b", ID, text)
    text = re.sub(r"\b\d{4}-\d\d-\d\d(?!\d)", DAY, text)
    return re.sub(r"(?<!\d)(?!00:00:00)\d\d:\d\d:\d\d(?!\d)", TIME, text)


def commands(block: str) -> Iterator[str]:
    """The commands of a block; a line that ends with a backslash goes on."""
    lines = iter(block.splitlines())
    for line in lines:
        if line.startswith("$ "):
            command = line.removeprefix("$ ")
            while command.endswith("\\"):
                command += "\n" + next(lines)
            yield command


def replayed(page: str, folder: Path, provider: str) -> str:
    """The page with what its commands print now."""
    session = Session(folder, provider)

    def again(block: re.Match[str]) -> str:
        return "".join(f"$ {command}\n{session.type(command)}" for command in commands(block[0]))

    try:
        return BLOCK.sub(again, page)
    finally:
        session.end()
