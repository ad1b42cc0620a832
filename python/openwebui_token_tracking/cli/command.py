"""Commands of ``owui-token-tracking``, callable from Python."""

import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from openwebui_token_tracking.executable import ExecutableNotFoundError, find


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Becomes the executable, with these arguments; by default those of this process.

    Does not return. To call a command and go on, use :func:`openwebui_token_tracking.executable.run`.
    """
    command = [_program(), *(sys.argv[1:] if arguments is None else arguments)]
    if os.name == "nt":
        # Windows has no exec: a new process would outlive its terminal's wait.
        sys.exit(subprocess.run(command, check=False).returncode)
    os.execv(command[0], command)


class Command:
    """A command, or a group of them, where version 0.1 had one of click's.

    :param words: its name after ``owui-token-tracking``
    """

    def __init__(self, *words: str) -> None:
        self.words = words
        self.name = words[-1] if words else "cli"

    def __call__(self, arguments: Sequence[str] | None = None) -> NoReturn:
        """Becomes the executable, with these arguments; by default those of this process."""
        main([*self.words, *(sys.argv[1:] if arguments is None else arguments)])

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any) -> NoReturn:
        """Runs it, prints what it says to ``sys.stdout`` and ``sys.stderr``, and ends with its exit code, as click's do."""
        command = [_program(), *self.words, *(sys.argv[1:] if args is None else args)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, encoding="utf-8", check=False)
        sys.stdout.write(done.stdout)
        sys.stderr.write(done.stderr)
        sys.exit(done.returncode)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        said = " ".join(["owui-token-tracking", *self.words])
        raise AttributeError(
            f"`{said}` is no command of click's, and has no {name}: call openwebui_token_tracking.executable.run"
            f"({', '.join(repr(word) for word in self.words) or '…'})"
        )


def _program() -> str:
    try:
        return find()
    except ExecutableNotFoundError as error:
        sys.exit(f"error: {error}")
