"""Server-sent events as Open WebUI takes them from a pipe: one string for each, beginning with ``data:``."""

import json
from decimal import Decimal
from typing import Any

DONE = "data: [DONE]"
_ERROR = 'data: {"error"'
# Inside texts quotes are escaped, so this stands only where the gateway put it.
_CREDITS = '"credits":'


class Lines:
    """Cuts what arrives into lines; comments and other fields are left out."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        """The lines that are complete now."""
        *complete, self._rest = (self._rest + data).split(b"\n")
        return [line.rstrip(b"\r").decode(errors="replace") for line in complete if line.startswith(b"data:")]


def is_error(line: str) -> bool:
    """Whether the gateway says that the answer has failed."""
    return line.startswith(_ERROR)


def message_of(line: str) -> tuple[str, str | None]:
    """The message and the code of such an error."""
    error = content(line).get("error")
    if not isinstance(error, dict):
        return str(error), None
    return str(error.get("message") or error), error.get("code")


def error(message: str) -> str:
    """An error within an answer: Open WebUI keeps what came before and shows the message, in chats and to API clients."""
    return "data: " + json.dumps({"error": {"message": message, "detail": message}}, ensure_ascii=False)


def charged(line: str) -> dict[str, Any] | None:
    """The usage with ``credits``, if that line has it."""
    if _CREDITS not in line:
        return None
    usage = content(line).get("usage")
    return usage if isinstance(usage, dict) and "credits" in usage else None


def text_of(line: str) -> str | None:
    """The text that a line adds, where it adds nothing else: empty for the end, ``None`` for tools, reasoning and errors."""
    if line.strip() == DONE:
        return ""
    said = content(line)
    deltas = [choice.get("delta") or {} for choice in said.get("choices") or []]
    if "error" in said or any(set(delta) - {"role", "content"} for delta in deltas):
        return None
    return "".join(delta.get("content") or "" for delta in deltas)


def content(line: str) -> dict[str, Any]:
    """An event's JSON; nothing if it has none."""
    try:
        content = json.loads(line.removeprefix("data:"), parse_float=Decimal)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
