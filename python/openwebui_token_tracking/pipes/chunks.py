"""Text and chunks of a pipe of one's own, in the form that Open WebUI takes. The end is kept back until it is charged."""

import json
import time
import uuid
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from openwebui_token_tracking.errors import RequestError
from openwebui_token_tracking.pipes.lines import DONE


class Answer:
    """The answer as it grows."""

    def __init__(self, model_id: str) -> None:
        self._head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": model_id}
        self._reasons: dict[int, str] = {}
        self._message: dict[str, Any] = {"role": "assistant", "content": ""}
        self.usage: dict[str, Any] | None = None
        """What the chunks said."""

    def take(self, piece: object, may_be_line: bool) -> tuple[str, str | None]:
        """Takes what the pipe yielded: text, or an OpenAI chunk.

        :param may_be_line: whether a string that begins with ``data:`` is an event
        :return: the text that was produced, and the line to pass on, if there is something to show
        :raises RequestError: if it is an error
        """
        if isinstance(piece, bytes):
            piece = piece.decode(errors="replace")
        if isinstance(piece, str):
            if not (may_be_line and piece.lstrip().startswith("data:")):
                return self._text(piece)
            content = piece.strip().removeprefix("data:").strip()
            if content == "[DONE]":
                return "", None
            try:
                piece = json.loads(content)
            except ValueError:
                return "", None
        if isinstance(piece, Mapping):
            return self._chunk(dict(piece))
        return self._text(str(piece))

    def end(self, bill: Mapping[str, Any] | None) -> list[str]:
        """The last lines: why it ended, the usage with its credits, and the end itself."""
        reasons = self._reasons or {0: "stop"}
        choices = [{"index": index, "delta": {}, "finish_reason": reason} for index, reason in reasons.items()]
        usage = self._usage(bill)
        chunk = {**self._head, "object": "chat.completion.chunk", "choices": choices}
        return [_line({**chunk, "usage": usage} if usage else chunk), DONE]

    def completion(self, bill: Mapping[str, Any] | None) -> dict[str, Any]:
        """All of it as one answer."""
        choice = {"index": 0, "message": self._message, "finish_reason": self._reasons.get(0, "stop")}
        whole: dict[str, Any] = {**self._head, "object": "chat.completion", "choices": [choice]}
        usage = self._usage(bill)
        return {**whole, "usage": usage} if usage else whole

    def with_usage(self, response: Mapping[str, Any], bill: Mapping[str, Any] | None) -> dict[str, Any]:
        """A whole answer that the pipe made itself, with its credits."""
        if isinstance(response.get("usage"), Mapping):
            self.usage = dict(response["usage"])
        usage = self._usage(bill)
        return {**response, "usage": usage} if usage else dict(response)

    def _usage(self, bill: Mapping[str, Any] | None) -> dict[str, Any] | None:
        if bill is None:
            return self.usage
        counted = {"prompt_tokens": bill["input_tokens"], "completion_tokens": bill["output_tokens"]}
        counted["total_tokens"] = counted["prompt_tokens"] + counted["completion_tokens"]
        charged = {
            name: _number(bill[name]) for name in ("credits", "credits_remaining", "cost") if bill.get(name) is not None
        }
        return {**(self.usage or {}), **counted, **charged}

    def _text(self, text: str) -> tuple[str, str | None]:
        if not text:
            return "", None
        self._message["content"] += text
        choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
        return text, _line({**self._head, "object": "chat.completion.chunk", "choices": [choice]})

    def _chunk(self, chunk: dict[str, Any]) -> tuple[str, str | None]:
        if "error" in chunk:
            error = chunk["error"]
            raise RequestError(str(error.get("message", error) if isinstance(error, Mapping) else error))
        usage = chunk.pop("usage", None)
        if isinstance(usage, dict) and usage.get("prompt_tokens"):
            self.usage = usage
        text, choices = "", []
        for choice in chunk.get("choices") or []:
            delta = choice.get("delta") or {}
            if choice.get("finish_reason"):
                self._reasons[choice.get("index", 0)] = choice["finish_reason"]
                choice = {**choice, "finish_reason": None}
            text += self._grow(delta)
            if delta:
                choices.append(choice)
        if not choices:
            return text, None
        return text, _line({**self._head, "object": "chat.completion.chunk", **chunk, "choices": choices})

    def _grow(self, delta: Mapping[str, Any]) -> str:
        produced = ""
        for name in ("reasoning_content", "content"):
            part = delta.get(name)
            if isinstance(part, str) and part:
                self._message[name] = self._message.get(name, "") + part
                produced += part
        for piece in delta.get("tool_calls") or []:
            produced += self._grow_call(piece)
        return produced

    def _grow_call(self, piece: Mapping[str, Any]) -> str:
        calls = self._message.setdefault("tool_calls", [])
        index = piece.get("index", len(calls))
        while len(calls) <= index:
            calls.append({"index": len(calls), "type": "function", "function": {"name": "", "arguments": ""}})
        call, function = calls[index], piece.get("function") or {}
        if piece.get("id"):
            call["id"] = piece["id"]
        for name in ("name", "arguments"):
            call["function"][name] += function.get(name) or ""
        return (function.get("name") or "") + (function.get("arguments") or "")


def text_of(response: object) -> str:
    """All text that a whole answer has produced."""
    if isinstance(response, str):
        return response
    if not isinstance(response, Mapping):
        return ""
    texts = []
    for choice in response.get("choices") or []:
        message = choice.get("message") or {}
        texts += [str(message.get(name) or "") for name in ("reasoning_content", "content")]
        texts += [json.dumps(call.get("function")) for call in message.get("tool_calls") or []]
    return "".join(texts)


def _line(chunk: Mapping[str, Any]) -> str:
    return "data: " + json.dumps(chunk, ensure_ascii=False)


def _number(value: object) -> object:
    """A number as JSON can have it."""
    if not isinstance(value, Decimal):
        return value
    return int(value) if value == value.to_integral_value() else float(value)
