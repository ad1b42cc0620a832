"""The command line under the name that 0.1 gave it: :mod:`openwebui_token_tracking.cli`."""

from typing import TYPE_CHECKING

from openwebui_token_tracking._original import answer_for
from openwebui_token_tracking.cli.command import Command, main
from openwebui_token_tracking.cli.commands import credit_group, database, pricing, settings, sponsored, user

__all__ = [
    "cli",
    "credit_group",
    "database",
    "init",
    "main",
    "pricing",
    "settings",
    "sponsored",
    "user",
]

cli = Command()
init = Command("init")
# `import openwebui_token_tracking.cli.main as …` finds the function.
setattr(main, "cli", cli)  # noqa: B010

if not TYPE_CHECKING:
    __getattr__ = answer_for(__name__)

if __name__ == "__main__":
    cli()
