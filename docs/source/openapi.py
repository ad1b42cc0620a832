"""Puts an OpenAPI document into a page: the line `{openapi} PATH` becomes its operations and objects, as Markdown."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

_LINE = re.compile(r"^\{openapi\} (\S+)$", re.MULTILINE)
_METHODS = ("get", "post", "put", "patch", "delete")
_PLACES = {"path": "path", "query": "query", "header": "header"}

Node = dict[str, Any]


class Document:
    """An OpenAPI document, rendered."""

    def __init__(self, document: Node) -> None:
        self.document = document

    def render(self) -> Iterator[str]:
        """All of it: its operations by tag, then the objects that they name."""
        yield self.document["info"]["description"]
        for tag in self.document["tags"]:
            yield f"## {tag['name']}\n\n{tag['description']}"
            for path, item in self.document["paths"].items():
                for method in _METHODS:
                    operation = item.get(method)
                    if operation and tag["name"] in operation["tags"]:
                        yield from self.operation(method, path, operation)
        yield "## Objects"
        for name, schema in self.document["components"]["schemas"].items():
            if self.is_object(schema):
                yield f"(object-{name.lower()})=\n### {name}"
                yield from self.described(schema)
                yield self.fields(schema)

    def operation(self, method: str, path: str, operation: Node) -> Iterator[str]:
        """One operation: what it does, takes and answers."""
        yield f"### `{method.upper()} {path}`\n\n{operation['summary']}."
        yield from self.described(operation)
        parameters = [self.resolved(parameter) for parameter in operation.get("parameters", [])]
        if parameters:
            rows = (
                (f"`{one['name']}`", _PLACES[one["in"]], self.kind(one["schema"]), _meaning(one, one.get("required")))
                for one in parameters
            )
            yield _table(("parameter", "in", "type", "meaning"), rows)
        if "requestBody" in operation:
            content = operation["requestBody"]["content"]["application/json"]
            schema = content["schema"]
            yield f"Body: {self.kind(schema)}." if "$ref" in schema else f"Body:\n\n{self.fields(schema)}"
            yield from self.described(schema)
            yield _json(content["example"])
        answers = ((status, self.answer(answer)) for status, answer in operation["responses"].items())
        yield _table(("status", "meaning"), ((f"`{status}`", text) for status, text in answers))
        for answer in operation["responses"].values():
            for content in self.resolved(answer).get("content", {}).values():
                if "example" in content:
                    yield _json(content["example"])

    def answer(self, answer: Node) -> str:
        """What an answer means, and its form."""
        answer = self.resolved(answer)
        text = _line(answer["description"])
        schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
        if "$ref" in schema:
            return f"{text} {self.kind(schema)}"
        fields = (f"`{name}`: {self.kind(field)}" for name, field in schema.get("properties", {}).items())
        return " ".join([text, ", ".join(fields)]).strip()

    def fields(self, schema: Node) -> str:
        """The fields of an object, those of objects within it too."""
        return _table(("field", "type", "meaning"), self.rows(schema, ""))

    def rows(self, schema: Node, prefix: str) -> Iterator[tuple[str, ...]]:
        """One row for each field."""
        schema = self.resolved(schema)
        for part in schema.get("allOf", []):
            yield from self.rows(part, prefix)
        for name, field in schema.get("properties", {}).items():
            required = name in schema.get("required", [])
            yield f"`{prefix}{name}`", self.kind(field), _meaning({**self.resolved(field), **field}, required)
            inner = field.get("items", field)
            if "$ref" not in inner:
                yield from self.rows(inner, f"{prefix}{name}.")

    def kind(self, schema: Node) -> str:
        """The type of a value, in words."""
        if "$ref" in schema:
            name = schema["$ref"].rsplit("/", 1)[-1]
            found = self.resolved(schema)
            return f"[{name}](#object-{name.lower()})" if self.is_object(found) else self.kind(found)
        if "enum" in schema:
            return " or ".join(f"`{value}`" for value in schema["enum"])
        if "const" in schema:
            return f"`{json.dumps(schema['const'])}`"
        for several in ("oneOf", "allOf"):
            if several in schema:
                return " or ".join(self.kind(one) for one in schema[several])
        kinds = schema.get("type", "value")
        if kinds == "array":
            return f"list of {self.kind(schema['items'])}"
        return kinds if isinstance(kinds, str) else " or ".join(kinds)

    def is_object(self, schema: Node) -> bool:
        """Whether it has fields, and so a section of its own."""
        return "properties" in schema or any(self.is_object(self.resolved(one)) for one in schema.get("allOf", []))

    def resolved(self, node: Node) -> Node:
        """What a reference refers to."""
        if "$ref" not in node:
            return node
        found = self.document
        for step in node["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        return found

    @staticmethod
    def described(node: Node) -> Iterator[str]:
        """The description, if there is one."""
        if "description" in node:
            yield node["description"].strip()


def _meaning(node: Node, required: Any) -> str:
    parts = ["Required." if required else "", _line(node.get("description", ""))]
    if "default" in node.get("schema", node):
        parts.append(f"Default: `{json.dumps(node.get('schema', node)['default'])}`.")
    if "example" in node:
        parts.append(f"Example: `{node['example']}`.")
    return " ".join(part for part in parts if part)


def _line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _json(value: Any) -> str:
    return f"```json\n{json.dumps(value, indent=2, ensure_ascii=False)}\n```"


def _table(head: tuple[str, ...], rows: Any) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _fill_in(app: Sphinx, page: str, source: list[str]) -> None:
    def rendered(found: re.Match[str]) -> str:
        path = Path(app.srcdir, found[1])
        app.env.note_dependency(path)
        return "\n\n".join(Document(json.loads(path.read_text(encoding="utf-8"))).render())

    source[0] = _LINE.sub(rendered, source[0])


def setup(app: Sphinx) -> dict[str, bool]:
    """Registers it."""
    app.connect("source-read", _fill_in)
    return {"parallel_read_safe": True}
