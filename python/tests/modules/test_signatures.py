"""Our modules have the names, parameters, defaults, fields and columns of the original, as recorded from it."""

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
import record_signatures

RECORDED: dict[str, dict[str, Any]] = json.loads(
    Path(__file__).with_name("signatures.json").read_text(encoding="utf-8")
)
NAMES = [(module, name) for module, names in RECORDED.items() for name in names]


@pytest.mark.parametrize(("module", "name"), NAMES)
def test_is_as_in_the_original(module: str, name: str) -> None:
    ours = importlib.import_module(f"openwebui_token_tracking.{module}")
    assert record_signatures.described(getattr(ours, name)) == RECORDED[module][name]
