"""Each name of version 0.1.10 is there, or whoever asks for it reads what to write."""

import importlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from openwebui_token_tracking._original import answer_for

HERE = Path(__file__).parent
FILE = HERE / "names_of_0_1.txt"
NAMES = FILE.read_text(encoding="utf-8").splitlines()
PACKAGE = "openwebui_token_tracking"


def ways(name: str, kind: str) -> Iterator[tuple[str, list[str]]]:
    """A name as a module, and what is asked of that in turn."""
    parts = name.split(".")
    last = len(parts) if kind == "module" else len(parts) - 1
    while f"{'.'.join(parts[:last])} module" not in NAMES:
        last -= 1
    yield ".".join(parts[:last]), parts[last:]


def found(name: str, kind: str) -> Any:
    (module, attributes) = next(ways(name, kind))
    value: Any = importlib.import_module(module)
    for attribute in attributes:
        if attribute in getattr(value, "model_fields", {}):
            return value
        if kind == "instance" and isinstance(value, type):
            value = value(db_url="sqlite://") if name.endswith("db_url") or name.endswith("db_engine") else value()
        value = getattr(value, attribute)
    return value


def test_the_list_is_that_of_the_original(original: str) -> None:
    made = subprocess.run(
        [original, "-I", HERE / "record_names.py"], capture_output=True, text=True, check=True, encoding="utf-8"
    )
    assert made.stdout.splitlines() == NAMES and len(NAMES) > 400


def test_no_name_is_without_an_answer() -> None:
    silent = []
    for line in NAMES:
        name, _, kind = line.partition(" ")
        try:
            found(name, kind)
        except ImportError as error:
            # Only what was another package's: it says where it is.
            if kind != "import" or "import it from" not in str(error):
                silent.append(f"{line}: {error}")
        except AttributeError as error:
            silent.append(f"{line}: {error}")
    assert silent == []


@pytest.mark.parametrize("module", ["tracking", "models", "model_pricing", "pipes.base_tracked_pipe", "pipes.openai"])
def test_the_prices_to_begin_with(module: str) -> None:
    with pytest.raises(ImportError, match="list_model_pricing"):
        exec(f"from {PACKAGE}.{module} import DEFAULT_MODEL_PRICING")


def test_other_names_are_missing_as_usual() -> None:
    assert not hasattr(importlib.import_module(f"{PACKAGE}.tracking"), "no_such_name")
    with pytest.raises(AttributeError, match="m.*no_such_name"):
        answer_for("m")("no_such_name")


def test_helpers_of_the_original() -> None:
    base = importlib.import_module(f"{PACKAGE}.pipes.base_tracked_pipe")
    assert 0 < base._time_to_midnight().total_seconds() <= 25 * 3600
    boxed = base._make_mermaid_error_message("DailyTokenLimitExceededError", "Come back tomorrow.")
    assert "DAILY TOKEN LIMIT EXCEEDED ERROR" in boxed and boxed.endswith("Come back tomorrow.\n")


def test_commands(capsys: pytest.CaptureFixture[str]) -> None:
    main = importlib.import_module(f"{PACKAGE}.cli.main")
    pricing = importlib.import_module(f"{PACKAGE}.cli.commands.pricing")
    for command, said in ((main.cli, "credit-group"), (pricing.pricing, "upsert"), (pricing.list_pricing, "--provider")):
        with pytest.raises(SystemExit) as ended:
            command.main(["--help"])
        assert ended.value.code == 0 and said in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main.cli.main(["no-such-command"])
    assert ended.value.code == 2 and "no-such-command" in capsys.readouterr().err
    with pytest.raises(AttributeError, match="executable.run.'pricing'"):
        pricing.pricing.add_command(main.cli)
    package = importlib.import_module(f"{PACKAGE}.cli")
    assert callable(package.main) and package.main.cli is package.cli is main.cli
