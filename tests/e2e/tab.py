"""A browser's tab as the server sees it: a socket.io connection, and chats whose answers come over it."""

import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import socketio

from account import Account
from waiting import until

BACKGROUND = {"title_generation": True, "tags_generation": True, "follow_up_generation": True}


@dataclass
class Turn:
    """One question to one or several models."""

    account: Account
    chat: str
    question: str
    # The ids of the answers' messages, in the order of the models.
    answers: list[str]
    tasks: list[str]
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def answer(self) -> str:
        return self.answers[0]

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The data of all events of that kind so far."""
        return [event["data"].get("data") or {} for event in list(self.events) if event["data"]["type"] == kind]

    def began(self, seconds: float = 60) -> None:
        """Waits for the first text of an answer."""

        def look() -> bool:
            return any(
                data.get("content") or data.get("choices") or "delta" in str(data.get("type"))
                for kind in ("chat:completion", "response:completion")
                for data in self.of(kind)
            )

        until(look, f"the answer begins; events {self.events}", seconds)

    def wait(self, seconds: float = 60) -> dict[str, Any]:
        """Waits until nothing of this chat runs any more; returns the first answer's message as saved."""
        until(lambda: any(data.get("active") is False for data in self.of("chat:active")), "the chat ends", seconds)
        return self.account.message(self.chat, self.answer)

    def stop(self) -> None:
        self.account.stop(self.chat)


class Tab:
    """An open tab. Its events go to the chat they belong to."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.events: dict[str, list[dict[str, Any]]] = {}
        self.guard = threading.Lock()
        self.socket = socketio.Client(reconnection=False)
        self.socket.on("events", self._heard)
        self.socket.connect(
            account.url,
            socketio_path="/ws/socket.io",
            transports=["websocket"],
            auth={"token": account.token},
            wait_timeout=30,
        )

    def close(self) -> None:
        self.socket.disconnect()

    def _heard(self, event: dict[str, Any], *_: Any) -> None:
        self._events_of(event.get("chat_id") or "").append(event)

    def _events_of(self, chat: str) -> list[dict[str, Any]]:
        with self.guard:
            return self.events.setdefault(chat, [])

    def ask(self, models: str | list[str], text: str, background: dict[str, bool] | None = None, **fields: Any) -> Turn:
        """Begins a new chat as the browser does; by default with its three background tasks."""
        models = [models] if isinstance(models, str) else models
        question, answers = str(uuid.uuid4()), [str(uuid.uuid4()) for _ in models]
        body = {
            "stream": True,
            "model": models[0],
            "messages": [{"role": "user", "content": text}],
            "session_id": self.socket.get_sid(),
            "id": answers[0],
            "message_ids": [
                {"model_id": model, "message_id": answer, "modelIdx": index}
                for index, (model, answer) in enumerate(zip(models, answers, strict=True))
            ],
            "parent_id": None,
            "user_message": {
                "id": question,
                "parentId": None,
                "childrenIds": answers,
                "role": "user",
                "content": text,
                "timestamp": int(time.time()),
                "models": models,
            },
            "background_tasks": BACKGROUND if background is None else background,
            "params": {},
            "features": {},
            **fields,
        }
        made = self.account.post("/api/chat/completions", body)
        return Turn(self.account, made["chat_id"], question, answers, made["task_ids"], self._events_of(made["chat_id"]))


@contextmanager
def open_tab(account: Account) -> Iterator[Tab]:
    tab = Tab(account)
    try:
        yield tab
    finally:
        tab.close()
