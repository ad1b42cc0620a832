"""What others import of the package, and what the package of the version before expects of the gateway.

The rule it protects: none of it changes unannounced. To change the names on purpose, run this file with ``UPDATE_CONTRACT=1``, look
at what ``git diff`` says, and write it into CHANGELOG.md. ``previous-local-api.json`` is docs/local-api.json as the previous
release had it; a new release puts its own there.
"""

import importlib
import inspect
import json
import os
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import openwebui_token_tracking

HERE = Path(__file__).parent
NAMES = HERE / "python_names.txt"
PREVIOUS: dict[str, Any] = json.loads((HERE / "previous-local-api.json").read_text(encoding="utf-8"))
PRESENT: dict[str, Any] = json.loads((HERE.parents[2] / "docs" / "local-api.json").read_text(encoding="utf-8"))
# How the package talks to its gateway is its own affair.
OURS_ALONE = {"asynchronous", "child", "client", "compatible", "executable", "overrides", "said", "threads"}
METHODS = ("get", "post", "put", "patch", "delete")


def signature(value: Any) -> str:
    """Parameters and defaults, without annotations: they are written anew by each version of Python."""
    try:
        parameters = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        return "(…)"
    plain = [one.replace(annotation=inspect.Parameter.empty) for one in parameters]
    shown = ", ".join("…" if " object at " in str(one) else str(one) for one in plain)
    return f"({shown})"


def members(name: str, cls: type) -> Iterator[str]:
    """What a class of ours has of its own."""
    for key, value in sorted(vars(cls).items()):
        if key.startswith("_"):
            continue
        function = value.__func__ if isinstance(value, (classmethod, staticmethod)) else inspect.unwrap(value)
        yield f"{name}.{key}{signature(function) if inspect.isfunction(function) else ''}"


def public_names() -> Iterator[str]:
    """All public names of all public modules, as others can import them."""
    package = openwebui_token_tracking
    found = [name for _, name, _ in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
    for module_name in sorted([package.__name__, *found]):
        parts = module_name.split(".")
        if any(part.startswith("_") for part in parts) or OURS_ALONE & set(parts):
            continue
        module = importlib.import_module(module_name)
        for key, value in sorted(vars(module).items()):
            name = f"{module_name}.{key}"
            if key.startswith("_") or inspect.ismodule(value):
                continue
            made_in = str(getattr(value, "__module__", module_name))
            # A package hands on what is made in its modules; a module may only use it.
            if made_in != module_name and not (hasattr(module, "__path__") and made_in.startswith(package.__name__)):
                continue
            if inspect.isclass(value):
                yield f"{name} class"
                if made_in == module_name:
                    yield from members(name, value)
            elif inspect.isfunction(value):
                yield f"{name}{signature(value)}"
            elif key != "TYPE_CHECKING":
                yield name


def test_names_change_only_on_purpose() -> None:
    found = list(dict.fromkeys(public_names()))
    assert len(found) > 100
    if "UPDATE_CONTRACT" in os.environ:
        NAMES.write_text("\n".join(found) + "\n", encoding="utf-8")
    kept = NAMES.read_text(encoding="utf-8").splitlines()
    gone, new = sorted(set(kept) - set(found)), sorted(set(found) - set(kept))
    assert not gone and not new, (
        f"names that others may import have changed; gone: {gone}, new: {new}. If that is on purpose, run "
        "`UPDATE_CONTRACT=1 python -m pytest python/tests/contract` and commit python_names.txt"
    )


def resolved(document: dict[str, Any], node: Any) -> Any:
    """What a reference refers to."""
    while isinstance(node, dict) and "$ref" in node:
        found: Any = document
        for step in node["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        node = found
    return node


def content(document: dict[str, Any], node: Any) -> Any:
    """The schema of a body, if it is JSON."""
    body = resolved(document, node) or {}
    return resolved(document, body.get("content", {}).get("application/json", {}).get("schema", {}))


def promised(document: dict[str, Any], schema: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, str]]:
    """Each field that an answer always has, with its kind."""
    schema = resolved(document, schema)
    if not isinstance(schema, dict) or depth > 8:
        return
    yield path, json.dumps(schema.get("type"))
    for name in schema.get("required", []):
        if name in schema.get("properties", {}):
            yield from promised(document, schema["properties"][name], f"{path}.{name}", depth + 1)
    if "items" in schema:
        yield from promised(document, schema["items"], f"{path}[]", depth + 1)


OPERATIONS = [
    (method, path) for path, item in PREVIOUS["paths"].items() for method in METHODS if method in item
]


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_the_previous_package_finds_what_it_asks_for(method: str, path: str) -> None:
    before = PREVIOUS["paths"][path][method]
    now = PRESENT["paths"].get(path, {}).get(method)
    assert now is not None, "a route of the previous release is gone"
    # What it sends is taken: no name of a parameter is gone, and nothing more is wanted.
    named = {one["name"] for one in (resolved(PREVIOUS, one) for one in before.get("parameters", []))}
    parameters = [resolved(PRESENT, one) for one in now.get("parameters", [])]
    assert named <= {one["name"] for one in parameters}
    wanted = {one["name"] for one in parameters if one.get("required")}
    assert wanted <= named
    sent = content(PREVIOUS, before.get("requestBody"))
    taken = content(PRESENT, now.get("requestBody"))
    assert set(taken.get("required", [])) <= set(sent.get("required", []))
    if taken.get("additionalProperties", True) is False:
        assert set(sent.get("properties", {})) <= set(taken.get("properties", {}))
    # What it reads is there.
    for status, answer in before["responses"].items():
        if not status.startswith("2"):
            continue
        assert status in now["responses"]
        reads = dict(promised(PREVIOUS, content(PREVIOUS, answer)))
        has = dict(promised(PRESENT, content(PRESENT, now["responses"][status])))
        assert {name: kind for name, kind in reads.items() if has.get(name) != kind} == {}
