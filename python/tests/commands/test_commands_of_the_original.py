"""Every command of the original with every option of it, run by it and by ours on a database each: what becomes of its
tables is compared, row by row, and whether the command succeeds.

`scripts/original-environment` installs the original.
"""

import contextlib
import json
import os
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import databases
import invoke
import pytest

from openwebui_token_tracking import executable

PRICE = {
    "id": "gpt-test",
    "provider": "openai",
    "name": "Test",
    "input_cost_credits": 3000,
    "per_input_tokens": 1_000_000,
    "output_cost_credits": 15000,
    "per_output_tokens": 1_000_000,
}
FILES: dict[str, Any] = {
    "models": [PRICE, {**PRICE, "id": "other", "provider": "mistral"}],
    "one": {**PRICE, "id": "single"},
    "changes": [{"id": "gpt-test", "provider": "openai", "name": "New"}, {"id": "other", "provider": "mistral"}],
    "settings": [
        {"setting_key": "base_credit_allowance", "setting_value": "500", "description": "Less"},
        {"setting_key": "of_others", "setting_value": "blue", "description": "Theirs"},
    ],
    "later_models": [{**PRICE, "output_cost_credits": 1, "per_output_tokens": 1}, {**PRICE, "id": "more"}],
    "later_settings": [{"setting_key": "base_credit_allowance", "setting_value": "600", "description": "Later"}],
    "nonsense": "[{",
}
ADD = "pricing add --provider openai --id gpt-test --name Test --input-cost-credits 3000 --output-cost-credits 15000"
ADD_OTHER = ADD.replace("openai", "mistral").replace("gpt-test", "other")
SPONSOR = "sponsored create --sponsor-id 'AI department' --name course -m gpt-test --model other -t 1000 -d 20"

# Where both must do the same: lists of invocations, each on a database of its own. `{url}` is the database's, which the
# environment names where it is not given; `{models}` and the like are files.
SAME = {
    "a database is migrated": """
        database migrate
        database migrate {url}
    """,
    "init with files": """
        init --model-json {models} --settings-json {settings}
        init --model-json {models} --settings-json {settings}
    """,
    "init with files that have changed": """
        init --model-json {models} --settings-json {settings}
        init --model-json {later_models} --settings-json {later_settings}
    """,
    "groups": """
        credit-group list
        credit-group get staff
        credit-group create staff 2000 'Who works here'
        credit-group create guests 10 'Who visits' {url}
        credit-group create staff 1 Again
        credit-group get staff
        credit-group get staff {url}
        credit-group create STAFF 1 'In another case'
        credit-group update nobody 1
        credit-group list {url}
    """,
    "groups are deleted": """
        credit-group create staff 2000 'Who works here'
        credit-group create guests 10 'Who visits'
        credit-group create others 10 'Who else'
        credit-group add-user ann staff
        credit-group delete guests
        credit-group delete staff
        credit-group delete staff --force {url}
        credit-group delete others {url}
        credit-group delete nobody --force
    """,
    "members": """
        credit-group create staff 2000 'Who works here'
        credit-group create guests 10 'Who visits'
        credit-group list-users staff
        credit-group add-user ann staff
        credit-group add-user bob staff {url}
        credit-group add-user ann guests
        credit-group add-user ann nobody
        credit-group add-user nobody staff
        credit-group list-users staff {url}
        credit-group remove-user ann staff
        credit-group remove-user bob staff {url}
        credit-group remove-user ann staff
        credit-group remove-user ann nobody
        credit-group list-users nobody
    """,
    "prices are added": f"""
        pricing list
        {ADD}
        {ADD_OTHER} --per-input-tokens 1000 --per-output-tokens 1 --database-url {{url}}
        {ADD}
        pricing list
        pricing list --provider openai --database-url {{url}}
        pricing get gpt-test
        pricing get gpt-test --provider openai --database-url {{url}}
    """,
    "several prices are added": """
        pricing add --json {models} --database-url {url}
        pricing add --json {nonsense}
        pricing add --json {models} --id x
        pricing add --id x
    """,
    "prices are changed": """
        pricing add --json {models}
        pricing update gpt-test --provider openai --name New
        pricing update gpt-test --provider openai --input-cost-credits 1 --per-input-tokens 2
        pricing update other --provider mistral --output-cost-credits 3 --per-output-tokens 4 --database-url {url}
        pricing update gpt-test --name 'No provider'
        pricing update --provider openai --name 'No model'
        pricing update --json {nonsense}
        pricing update gpt-test --json {changes}
    """,
    "prices are changed by a file": """
        pricing add --json {models}
        pricing update --json {changes} --database-url {url}
    """,
    "prices are upserted": """
        pricing upsert gpt-test --provider openai --name Test --input-cost-credits 1 --per-input-tokens 1000 --output-cost-credits 2 --per-output-tokens 1000
        pricing upsert gpt-test --provider openai --name New --input-cost-credits 3 --per-input-tokens 1000 --output-cost-credits 4 --per-output-tokens 1000 --database-url {url}
        pricing upsert --json {models} --database-url {url}
        pricing upsert --json {one}
        pricing upsert --json {nonsense}
        pricing upsert --json {models} --provider openai
        pricing upsert gpt-test --provider openai --name Test
    """,
    "prices are deleted": """
        pricing add --json {models}
        pricing delete gpt-test
        pricing delete gpt-test --yes
        pricing delete other -y --provider mistral --database-url {url}
    """,
    "settings": """
        settings init
        settings init --setting base_credit_allowance 500 Less --setting of_others blue Theirs
        settings init --setting hold_wait 5 Ours --database-url {url}
    """,
    "allowances": f"""
        pricing add --json {{models}}
        sponsored list
        {SPONSOR}
        sponsored create --sponsor-id ann --name short --model other --total-limit 5 --daily-limit 1 --database-url {{url}}
        sponsored create --sponsor-id ann --name free -m other -t 7
        sponsored list
        sponsored list --database-url {{url}}
    """,
    "allowances are changed": f"""
        pricing add --json {{models}}
        {SPONSOR}
        sponsored update --name course --total-limit 5 --daily-limit 1
        sponsored update --name course -t 6 -d 2 --database-url {{url}}
        sponsored update --name course --new-name lecture --sponsor-id ann
        sponsored update --name lecture --model other
        sponsored update --name lecture -m gpt-test -m other
    """,
    "allowances are deleted": f"""
        pricing add --json {{models}}
        {SPONSOR}
        sponsored create --sponsor-id ann --name other -m other -t 7
        sponsored delete --name course
        sponsored delete --name other --database-url {{url}}
    """,
    "users": """
        user find --id ann
        user find --name Ann {url}
        user find --email ann@example.org
        user find --id ann --name Ann --email ann@example.org
    """,
}


@dataclass(frozen=True)
class Better:
    """Invocations of which ours makes something else than the original, and why."""

    why: str
    commands: str
    # Whether the last of them succeeds with ours.
    succeeds: bool
    # Where the original does something else.
    on: tuple[str, ...] = ("sqlite", "postgres")


DIFFERENT = {
    "init with a URL": Better(
        "the original migrates only what the environment names, and then says that migrating has failed",
        "init --database-url {url} --model-json {models} --settings-json {settings}",
        True,
    ),
    "init again": Better(
        "what an administrator has changed stays: the original puts its prices and settings back at each start",
        """
        init --model-json {models} --settings-json {settings}
        pricing update gpt-test --provider openai --name New
        settings init --setting base_credit_allowance 7 Mine
        init --model-json {models} --settings-json {settings}
        """,
        True,
    ),
    "nobody is found": Better("a script can tell: the original ends with 0", "user find --id nobody", False),
    "nobody is looked for": Better("nobody is named: the original shows whoever comes first", "user find", False),
    "a group is changed": Better(
        "the original's command calls a function with a parameter that it has not, and always fails",
        "credit-group create staff 2000 ''\ncredit-group update staff 500",
        True,
    ),
    "a group is changed by a URL": Better(
        "the same", "credit-group create staff 2000 ''\ncredit-group update staff 500 {url}", True
    ),
    "no number": Better(
        "the original hands it on to the database, and SQLite keeps it",
        "credit-group create odd many ''",
        False,
        ("sqlite",),
    ),
    "a file with one price": Better("the original fails", "pricing add --json {one}", True),
    "a price that is not there is deleted": Better("the original ends with 0", "pricing delete nothing --yes", False),
    "a price that is not there is shown": Better("the original ends with 0", "pricing get nothing", False),
    "a price that is not there is changed": Better(
        "the original ends with 0", "pricing update nothing --provider openai --name x", False
    ),
    "no price is named to upsert, but its tokens": Better(
        "a million tokens is what everyone means",
        "pricing upsert a --provider openai --name A --input-cost-credits 1 --output-cost-credits 2",
        True,
    ),
    "no allowance is named": Better("the original ends with 0", "sponsored update -t 1", False),
    "no allowance is named to delete": Better("the original ends with 0", "sponsored delete", False),
    "an allowance that is not there": Better("the original ends with 0", "sponsored delete --name nothing", False),
    "a model without a price": Better(
        "the original makes an allowance for models that it does not know", SPONSOR, False, ("sqlite",)
    ),
    "an allowance is changed by its id": Better(
        "the original finds none by its id on SQLite",
        f"pricing add --json {{models}}\n{SPONSOR}\nsponsored update --id '{{id of course}}' -t 5",
        True,
        ("sqlite",),
    ),
    "an allowance is deleted by its id": Better(
        "the same",
        f"pricing add --json {{models}}\n{SPONSOR}\nsponsored delete --id '{{id of course}}'",
        True,
        ("sqlite",),
    ),
    "an allowance of the same name": Better(
        "the original makes two, of which one can't be named",
        f"pricing add --json {{models}}\n{SPONSOR}\n{SPONSOR}",
        False,
    ),
}
# Arguments of the original's that are the database's address, in whichever place.
ADDRESS = ("[database-url]", "[database_url]")


def invocations(commands: str) -> list[list[str]]:
    """Each line as arguments."""
    return [shlex.split(line) for line in commands.strip().splitlines()]


def parsed(files: dict[str, str]) -> dict[str, list[list[str]]]:
    """All lists of invocations, with the paths of files in their places."""

    def filled_in(argument: str) -> str:
        return files.get(argument.strip("{}"), argument)

    lists = {**SAME, **{name: better.commands for name, better in DIFFERENT.items()}}
    return {
        name: [[filled_in(argument) for argument in line] for line in invocations(commands)]
        for name, commands in lists.items()
    }


@dataclass(frozen=True)
class Made:
    """What one of the two made of invocations, and of the database."""

    succeeded: list[bool]
    effects: dict[str, list[dict[str, Any]]]


def ask_original(python: str, tasks: dict[str, list[list[str]]]) -> Any:
    """What the original makes of invocations, all in one process."""
    done = subprocess.run(
        [python, "-I", invoke.__file__],
        input=json.dumps(tasks),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def ask_ours(url: str, several: list[list[str]]) -> list[bool]:
    """What ours makes of them."""
    succeeded = []
    for arguments in several:
        filled, environment = invoke.filled_in(arguments, url, databases.engine(url))
        named = {name: value for name, value in environment.items() if value is not None}
        done = subprocess.run(
            [executable.find(), *filled],
            env={"PATH": os.environ["PATH"], **named},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert "panicked" not in done.stderr, done.stderr
        succeeded.append(done.returncode == 0)
    return succeeded


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The paths of the files that invocations name."""
    folder = tmp_path_factory.mktemp("files")
    paths = {name: folder / f"{name}.json" for name in FILES}
    for name, content in FILES.items():
        paths[name].write_text(content if isinstance(content, str) else json.dumps(content))
    return {name: str(path) for name, path in paths.items()}


@pytest.fixture(scope="session")
def made(
    kind: str, original: str, files: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, tuple[Made, Made]]]:
    """For each list of invocations: what ours made of it, and what the original did."""
    folder, lists = tmp_path_factory.mktemp("made"), parsed(files)
    begin = {name: several[0][0] in ("init", "database") for name, several in lists.items()}
    with contextlib.ExitStack() as stack:

        def fresh(template: str | None) -> str:
            return stack.enter_context(databases.fresh(kind, folder, template))

        migrated = fresh(None)
        assert all(ask_original(original, {migrated: [["database", "migrate"]]})["succeeded"][migrated])
        theirs = {name: fresh(None if begin[name] else migrated) for name in lists}
        answers = ask_original(original, {theirs[name]: several for name, several in lists.items()})["succeeded"]
        empty = fresh(None)
        assert all(ask_ours(empty, [["database", "migrate"]]))
        made = {}
        for name, several in lists.items():
            ours = fresh(None if begin[name] else empty)
            mine = Made(ask_ours(ours, several), databases.effects(ours))
            made[name] = mine, Made(answers[theirs[name]], databases.effects(theirs[name]))
        yield made


@pytest.mark.parametrize("name", SAME)
def test_does_the_same(name: str, made: dict[str, tuple[Made, Made]], files: dict[str, str]) -> None:
    ours, theirs = made[name]
    lines = SAME[name].strip().splitlines()
    assert dict(zip(lines, ours.succeeded, strict=True)) == dict(zip(lines, theirs.succeeded, strict=True))
    assert ours.effects == theirs.effects


@pytest.mark.parametrize("name", DIFFERENT)
def test_does_better(name: str, kind: str, made: dict[str, tuple[Made, Made]]) -> None:
    (ours, theirs), better = made[name], DIFFERENT[name]
    assert ours.succeeded[-1] == better.succeeds
    assert ours.succeeded[:-1] == theirs.succeeded[:-1]
    # Else it belongs above.
    assert (ours != theirs) == (kind in better.on)


def test_every_command_and_option_is_in_the_table(original: str) -> None:
    tried: dict[str, list[list[str]]] = {}
    commands = ask_original(original, {})["commands"]
    for several in [*SAME.values(), *(better.commands for better in DIFFERENT.values())]:
        for line in invocations(several):
            name = next(name for name in commands if line[: len(name.split())] == name.split())
            tried.setdefault(name, []).append(line[len(name.split()) :])
    for name, options in commands.items():
        given = [argument for line in tried[name] for argument in line]
        for option in options:
            if option in ADDRESS:
                assert any(line and line[-1] == "{url}" for line in tried[name]), f"{name} DATABASE_URL"
            elif not option.startswith("["):
                assert option in given, f"{name} {option}"


def test_every_model_of_the_original_has_a_price(kind: str, original: str, tmp_path: Path) -> None:
    """`init` without files: each of the models that the original begins with is there."""
    models = {}
    for name in ("ours", "theirs"):
        with databases.fresh(kind, tmp_path) as url:
            if name == "ours":
                assert all(ask_ours(url, [["init"]]))
            else:
                assert all(ask_original(original, {url: [["init"]]})["succeeded"][url])
            effects = databases.effects(url)
            models[name] = {(row["provider"], row["id"]) for row in effects["token_tracking_model_pricing"]}
    assert models["theirs"] - models["ours"] == set()
