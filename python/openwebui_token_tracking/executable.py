"""Where the executable ``owui-token-tracking`` is, and how to call one of its commands."""

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

NAME = "owui-token-tracking"
# Names another executable: one from a build, or a copy elsewhere.
VARIABLE = "OWUI_TRACKING_EXECUTABLE"


class ExecutableNotFoundError(FileNotFoundError):
    """The executable is not where a wheel puts it, nor on the path."""


def find() -> str:
    """The executable's path.

    What ``OWUI_TRACKING_EXECUTABLE`` says, else in this environment's scripts folders, else on PATH.

    :raises ExecutableNotFoundError: if there is none
    """
    named = os.environ.get(VARIABLE)
    if named:
        if os.access(named, os.X_OK):
            return named
        raise ExecutableNotFoundError(f"{VARIABLE} names {named}, which can't be executed")
    name = NAME + (sysconfig.get_config_var("EXE") or "")
    for folder in _folders():
        candidate = folder / name
        if candidate.is_file():
            return str(candidate)
    found = shutil.which(NAME)
    if found is not None:
        return found
    raise ExecutableNotFoundError(
        f"the executable {NAME} is missing from this environment: install the package again (pip install --force-reinstall "
        f"openwebui-token-tracking), or say in {VARIABLE} where it is"
    )


def _folders() -> Iterator[Path]:
    """Where installers put scripts: of this environment, of the user, beside a folder of `pip install --target`."""
    yield Path(sysconfig.get_path("scripts"))
    if sys.prefix != sys.base_prefix:
        yield Path(sysconfig.get_path("scripts", vars={"base": sys.base_prefix}))
    yield Path(sysconfig.get_path("scripts", scheme=sysconfig.get_preferred_scheme("user")))
    yield Path(__file__).resolve().parent.parent / "bin"


def environment(database_url: str | None) -> dict[str, str]:
    """This process's environment, with that database. In the environment, because other users can read arguments."""
    variables = dict(os.environ)
    if database_url is not None:
        variables["DATABASE_URL"] = database_url
    return variables


def run(*arguments: str, database_url: str | None = None) -> str:
    """Runs a command to its end, such as ``run("pricing", "list", "--format", "json")``, and returns what it printed.

    :param database_url: the database; ``None`` for the one that the environment names
    :raises ExecutableNotFoundError: if there is no executable
    :raises RuntimeError: if the command fails, with what it said
    """
    done = subprocess.run(
        [find(), *arguments],
        env=environment(database_url),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    if done.returncode != 0:
        said = done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}"
        raise RuntimeError(said.removeprefix("error: "))
    return done.stdout
