"""Invokes commands of the original on databases, and lists its commands: run by an interpreter that has it.

Standard input: `{url: [[argument, …], …]}`. Prints `{"commands": {command: [option, …]}, "succeeded": {url: [bool, …]}}`.
"""

import json
import sys
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa


def filled_in(arguments: list[str], url: str, engine: sa.Engine) -> tuple[list[str], dict[str, str | None]]:
    """The arguments with the database's address, and the ids of what is named, in their places; and the environment, which
    names the database if they do not."""
    filled = []
    for argument in arguments:
        if argument.startswith("{id of "):
            name = argument.removeprefix("{id of ").removesuffix("}")
            query = sa.text("SELECT CAST(id AS TEXT) FROM token_tracking_sponsored_allowance WHERE name = :name")
            with engine.connect() as connection:
                argument = connection.execute(query, {"name": name}).scalar_one()
        filled.append(argument.replace("{url}", url))
    return filled, {"DATABASE_URL": None if url in filled else url}


def walk(command: Any, path: str = "") -> Iterator[tuple[str, list[str]]]:
    """Each command with its options, and its arguments in brackets."""
    if hasattr(command, "commands"):
        for name, below in command.commands.items():
            yield from walk(below, f"{path} {name}".strip())
    else:
        kinds = {"option": "{}", "argument": "[{}]"}
        yield path, [kinds[one.param_type_name].format(name) for one in command.params for name in one.opts]


def main() -> None:
    """Does it."""
    from click.testing import CliRunner
    from openwebui_token_tracking.cli.main import cli

    runner = CliRunner()
    succeeded: dict[str, list[bool]] = {}
    for url, several in json.load(sys.stdin).items():
        engine = sa.create_engine(url, poolclass=sa.NullPool)
        for arguments in several:
            filled, environment = filled_in(arguments, url, engine)
            result = runner.invoke(cli, filled, env=environment)
            succeeded.setdefault(url, []).append(result.exit_code == 0)
    json.dump({"commands": dict(walk(cli)), "succeeded": succeeded}, sys.stdout)


if __name__ == "__main__":
    main()
