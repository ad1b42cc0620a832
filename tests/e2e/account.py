"""A user of Open WebUI who is signed in: what they ask over the API, and their chats."""

import json
from dataclasses import dataclass, field
from typing import Any

import httpx

from waiting import until

TIMEOUT = 120


@dataclass
class Answer:
    """What an API client got."""

    status: int
    text: str = ""
    usage: dict[str, Any] | None = None
    # What went wrong, as the client sees it; empty if nothing.
    error: str = ""
    chunks: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Account:
    """Whose requests these are."""

    url: str
    id: str
    name: str
    email: str
    password: str
    token: str

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {self.token}"}, timeout=TIMEOUT)

    def get(self, path: str) -> Any:
        return self._call("GET", path, None)

    def post(self, path: str, body: Any) -> Any:
        return self._call("POST", path, body)

    def _call(self, method: str, path: str, body: Any) -> Any:
        with self.client() as client:
            answer = client.request(method, path, json=body)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text[:1000]}"
        return answer.json()

    def models(self) -> list[str]:
        """The ids of the models that this user sees."""
        return [model["id"] for model in self.get("/api/models")["data"]]

    # The API's path: no chat is saved

    def ask(self, model: str, text: str, stream: bool = False, **fields: Any) -> Answer:
        body = {"model": model, "messages": [{"role": "user", "content": text}], "stream": stream, **fields}
        with self.client() as client, client.stream("POST", "/api/chat/completions", json=body) as response:
            if response.is_error or "text/event-stream" not in response.headers.get("content-type", ""):
                response.read()
                return _whole(response)
            return _streamed(response)

    # The browser's path

    def stop(self, chat: str) -> None:
        """What the stop button does."""
        self.post(f"/api/tasks/chat/{chat}/stop", {})

    def message(self, chat: str, message: str) -> dict[str, Any]:
        """A message as it is saved."""
        return self.get(f"/api/v1/chats/{chat}")["chat"]["history"]["messages"][message]

    def finished_message(self, chat: str, message: str, seconds: float = 60) -> dict[str, Any]:
        """A message as it is saved, as soon as it is done: needs no events, so it works with several workers."""

        def look() -> dict[str, Any] | None:
            now = self.message(chat, message)
            return now if now.get("done") else None

        return until(look, f"message {message} is done", seconds)


def _whole(response: httpx.Response) -> Answer:
    try:
        body = response.json()
    except json.JSONDecodeError:
        return Answer(response.status_code, error=response.text)
    answer = Answer(response.status_code, chunks=[body])
    if response.is_error or not isinstance(body, dict) or "choices" not in body:
        answer.error = error_text(body)
        return answer
    answer.text = body["choices"][0]["message"].get("content") or ""
    answer.usage = body.get("usage")
    return answer


def _streamed(response: httpx.Response) -> Answer:
    answer = Answer(response.status_code)
    for line in response.iter_lines():
        data = line.removeprefix("data: ")
        if not line.startswith("data: ") or data == "[DONE]":
            continue
        chunk = json.loads(data)
        answer.chunks.append(chunk)
        if "error" in chunk:
            answer.error = error_text(chunk)
        answer.usage = chunk.get("usage") or answer.usage
        for choice in chunk.get("choices") or []:
            answer.text += choice["delta"].get("content") or ""
    return answer


def error_text(body: Any) -> str:
    """The message inside an error body; Open WebUI wraps it in several ways."""
    while isinstance(body, dict):
        body = next((body[key] for key in ("error", "message", "detail", "content") if key in body), str(body))
    return str(body)
