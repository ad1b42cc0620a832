"""Where the clients run: a gateway with keys of users, and nothing else in reach."""

import json
import os
import socket
import threading
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from clients import Client
from programs import KEY, Gateway

MODELS = {
    "chat": "gpt-4o",
    "responses": "gpt-5.5",
    "messages": "claude-sonnet-4-5",
    "embedding": "text-embedding-3-small",
    "free": "free-test",
}
# What a program needs of the surroundings.
KEPT = ("PATH", "TMPDIR", "LANG")


class Outside:
    """Stands for the internet: a proxy that notes what it is asked for, and refuses it."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return  # It is closed.
            with connection:
                connection.settimeout(5)
                try:
                    line = connection.recv(4096).decode(errors="replace").splitlines()
                    self.asked.append(line[0] if line else "? nothing")
                    connection.sendall(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                except OSError:
                    self.asked.append("? nothing")

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


@dataclass
class Place:
    """A gateway, and where the clients are installed."""

    gateway: Gateway
    environments: Path
    outside: Outside
    # Of a user whose allowance is spent.
    spent_key: str = ""
    surroundings: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.surroundings = {name: value for name, value in os.environ.items() if name in KEPT}
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
            self.surroundings[name] = self.outside.url
        for name in ("NO_PROXY", "no_proxy"):
            self.surroundings[name] = "127.0.0.1,localhost"
        self.surroundings["NODE_USE_ENV_PROXY"] = "1"
        # Commands of npm look for Node there.
        node = (self.environments / "node-program").resolve().parent
        self.surroundings["PATH"] = f"{node}{os.pathsep}{os.environ['PATH']}"
        user, self.spent_key = self.new_user()
        self._ask(user, "chat", "[[sim input=1200000000 output=1]]")

    def new_user(self) -> tuple[str, str]:
        """Somebody with the whole allowance, and their key."""
        user = f"user-{uuid.uuid4()}"
        # The gateway knows of somebody from their first request on.
        self._ask(user, "free", "Hello.")
        made = self.gateway.json("key", "create", f"laptop of {user}", "--user", user)
        return user, made["key"]

    def _ask(self, user: str, model: str, text: str) -> None:
        body = {"model": MODELS[model], "messages": [{"role": "user", "content": text}]}
        headers = {"Authorization": f"Bearer {KEY}", "X-OpenWebUI-User-Id": user, "Content-Type": "application/json"}
        asked = Request(f"{self.gateway.url}/chat/completions", json.dumps(body).encode(), headers)
        with urlopen(asked, timeout=30) as answer:
            answer.read()

    def programs(self, client: Client) -> Path:
        """Where the client's own commands are."""
        place = self.environments / client.environment
        return place / "node_modules/.bin" if client.is_node else place / "bin"

    def job(self, client: Client, tasks: list[dict[str, str]]) -> dict[str, Any]:
        """What a script is told."""
        return {
            "openai": self.gateway.url,
            "anthropic": self.gateway.url.removesuffix("/v1"),
            "route": client.route,
            "model": MODELS[client.model or client.route],
            "embedding": MODELS["embedding"],
            "programs": str(self.programs(client)),
            "tasks": tasks,
        }
