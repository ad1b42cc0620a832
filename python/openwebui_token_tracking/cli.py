"""The command ``owui-token-tracking``, callable from Python."""

import os
import subprocess
import sys
from collections.abc import Sequence
from typing import NoReturn

from openwebui_token_tracking.executable import ExecutableNotFoundError, find


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Becomes the executable, with these arguments; by default those of this process.

    Does not return. To call a command and go on, use :func:`openwebui_token_tracking.executable.run`.
    """
    try:
        program = find()
    except ExecutableNotFoundError as error:
        sys.exit(f"error: {error}")
    command = [program, *(sys.argv[1:] if arguments is None else arguments)]
    if os.name == "nt":
        # Windows has no exec: a new process would outlive its terminal's wait.
        sys.exit(subprocess.run(command, check=False).returncode)
    os.execv(program, command)


cli = main
