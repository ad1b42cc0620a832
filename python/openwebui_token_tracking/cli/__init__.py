"""The command ``owui-token-tracking``, callable from Python."""

# Both after the module `main`, which is loaded by it: this name is the function.
from openwebui_token_tracking.cli.main import cli, main

__all__ = ["cli", "main"]
