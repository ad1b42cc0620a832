"""What is different at a terminal: tables fit it, heads and what is wrong are coloured, and what destroys is asked first."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Iterator
from pathlib import Path

import databases
import pytest

from openwebui_token_tracking import executable

WIDTH = 80
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class Terminal:
    """A terminal of a certain width, with a database."""

    def __init__(self, url: str) -> None:
        self.environment = {"PATH": os.environ["PATH"], "DATABASE_URL": url, "TERM": "xterm"}

    def type(self, *arguments: str, answer: str = "", **environment: str) -> tuple[int, str]:
        """Runs a command there, answers it, and returns its exit code and all that was on the screen."""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, WIDTH, 0, 0))
        # The answer waits in the terminal's input until it is read.
        os.write(ours, answer.encode())
        process = subprocess.Popen(
            [executable.find(), *arguments],
            env={**self.environment, **environment},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        shown = b""
        try:
            while piece := os.read(ours, 65536):
                shown += piece
        except OSError:
            # Linux's way to say that nobody writes any more.
            pass
        os.close(ours)
        return process.wait(timeout=60), shown.decode()


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    with databases.fresh("sqlite", tmp_path) as url:
        terminal = Terminal(url)
        assert terminal.type("init")[0] == 0
        assert terminal.type("credit-group", "create", "Students", "500", "Who takes a course, " * 8)[0] == 0
        yield terminal


@pytest.mark.parametrize(
    "command",
    [
        ["credit-group", "list"],
        ["pricing", "list"],
        ["settings", "list"],
        ["balance"],
        ["usage"],
        ["audit"],
        ["doctor", "--offline"],
    ],
)
def test_tables_fit(terminal: Terminal, command: list[str]) -> None:
    code, shown = terminal.type(*command)
    lines = COLOUR.sub("", shown).splitlines()
    assert code == 0 and any("═" in line for line in lines)
    assert max(len(line) for line in lines) <= WIDTH, shown


def test_colours(terminal: Terminal) -> None:
    assert COLOUR.search(terminal.type("credit-group", "list")[1])
    for without in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        assert not COLOUR.search(terminal.type("credit-group", "list", **without)[1]), without
    assert not COLOUR.search(terminal.type("credit-group", "list", "--format", "json")[1])


def test_what_destroys_is_asked(terminal: Terminal) -> None:
    model = ["pricing", "delete", "gpt-4o"]
    for command in (["credit-group", "delete", "Students"], model):
        code, shown = terminal.type(*command, answer="n\n")
        assert code == 1 and "[y/N]" in shown and "nothing was deleted" in shown, shown
        # Nothing typed is no.
        assert terminal.type(*command, answer="\n")[0] == 1
    code, shown = terminal.type("credit-group", "delete", "Students", answer="y\n")
    assert code == 0 and "is deleted" in shown, shown
    code, shown = terminal.type(*model, "--yes")
    assert code == 0 and "[y/N]" not in shown, shown
