"""Prints the names of version 0.1.10: of its modules, and what stands in them and in their classes, private ones included.

`$(scripts/original-environment) -I python/tests/modules/record_names.py > python/tests/modules/names_of_0_1.txt`. The modules are read,
not imported: some need Open WebUI. Behind a name: `module`; `import`, where the module only uses it; `instance`, where `__init__` sets it.
"""

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "openwebui_token_tracking"
Functions = (ast.FunctionDef, ast.AsyncFunctionDef)


def assigned(node: ast.stmt) -> Iterator[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    yield from (one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name))


def of_self(function: ast.FunctionDef) -> Iterator[str]:
    """What a method sets on its object."""
    for node in ast.walk(function):
        for target in node.targets if isinstance(node, ast.Assign) else []:
            if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id == "self":
                yield target.attr


def of_class(name: str, node: ast.ClassDef) -> Iterator[str]:
    yield name
    for member in node.body:
        if isinstance(member, ast.ClassDef):
            yield from of_class(f"{name}.{member.name}", member)
        elif isinstance(member, Functions):
            yield f"{name}.{member.name}"
        yield from (f"{name}.{one}" for one in assigned(member))
        if isinstance(member, ast.FunctionDef) and member.name == "__init__":
            yield from (f"{name}.{one} instance" for one in of_self(member))


def of_module(name: str, body: list[ast.stmt]) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield from of_class(f"{name}.{node.name}", node)
        elif isinstance(node, Functions):
            yield f"{name}.{node.name}"
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (f"{name}.{one.asname or one.name.split('.')[0]} import" for one in node.names if one.name != "*")
        yield from (f"{name}.{one}" for one in assigned(node))


def names() -> Iterator[str]:
    found = importlib.util.find_spec(PACKAGE)
    assert found is not None and found.origin is not None
    root = Path(found.origin).parent
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if parts[0] == "migrations":
            continue
        module = ".".join([PACKAGE, *(part for part in parts if part != "__init__")])
        yield f"{module} module"
        yield from of_module(module, ast.parse(path.read_text(encoding="utf-8")).body)


if __name__ == "__main__":
    print("\n".join(dict.fromkeys(one for one in names() if ".__" not in one)))
