"""Prints the public interface of a package's modules as JSON: names, parameters, defaults, fields, columns.

Run by the interpreter of `scripts/original-environment` it makes `signatures.json`, with which ours is compared.
"""

import importlib
import inspect
import json
import sys
from typing import Any

PACKAGE = "openwebui_token_tracking"
MODULES = [
    "credit_groups",
    "db",
    "db.base",
    "db.credit_group",
    "db.db",
    "db.model_pricing",
    "db.settings",
    "db.sponsored",
    "db.token_usage",
    "db.user",
    "model_pricing",
    "models",
    "settings",
    "sponsored",
    "user",
]


def parameters(function: Any) -> list[dict[str, str]]:
    """Each parameter with its kind and, if it has one, its default."""
    found = []
    for parameter in inspect.signature(function).parameters.values():
        entry = {"name": parameter.name, "kind": parameter.kind.name}
        if parameter.default is not inspect.Parameter.empty:
            entry["default"] = repr(parameter.default)
        found.append(entry)
    return found


def table(cls: Any) -> dict[str, Any]:
    """The table of a declarative class: columns with kind, key, nullability and what they refer to; relationships."""
    columns = {}
    for column in cls.__table__.columns:
        columns[column.name] = {
            "kind": type(column.type).__visit_name__,
            "length": getattr(column.type, "length", None),
            "key": column.primary_key,
            "nullable": column.nullable,
            "refers": sorted(key.target_fullname for key in column.foreign_keys),
        }
    relations = {relation.key: relation.mapper.class_.__name__ for relation in cls.__mapper__.relationships}
    indexes = sorted(index.name for index in cls.__table__.indexes)
    return {"table": cls.__tablename__, "columns": columns, "relations": relations, "indexes": indexes}


def described(value: Any) -> dict[str, Any]:
    """What a public name of a module is."""
    if inspect.isfunction(value):
        return {"function": parameters(value)}
    if hasattr(value, "__mapper__"):
        return table(value)
    if hasattr(value, "model_fields"):
        fields = value.model_fields.items()
        return {"fields": {name: {"required": field.is_required()} for name, field in fields}}
    if hasattr(value, "registry") and hasattr(value, "metadata"):
        return {"base": True}
    raise TypeError(f"{value!r} is of no kind that is recorded")


def interface(module: Any) -> dict[str, Any]:
    """The public names that a module defines, or that its `__all__` lists."""
    names = getattr(module, "__all__", None) or [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (
            getattr(value, "__module__", None) == module.__name__ or name == "Base" and module.__name__.endswith("base")
        )
    ]
    return {name: described(getattr(module, name)) for name in sorted(names)}


def package() -> dict[str, Any]:
    """All modules that are compared."""
    return {name: interface(importlib.import_module(f"{PACKAGE}.{name}")) for name in MODULES}


if __name__ == "__main__":
    json.dump(package(), sys.stdout, indent=1, sort_keys=True)
    print()
