"""A real Open WebUI: `uvicorn open_webui.main:app` on loopback, on a database of its own, and what its administrator does."""

import socket
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from account import Account
from databases import Database
from processes import PROGRAMS, ROOT, Program, clean_environment
from waiting import until

READY = 600
# Seconds until uvicorn ends a worker that does not answer, also while it is still loading.
HEALTHY = 45
PASSWORD = "a-password-for-tests"
PUBLIC = [{"principal_type": "user", "principal_id": "*", "permission": "read"}]
# No look at the world outside, no models to load.
SETTINGS = {
    "FROM_INIT_PY": "true",
    "WEBUI_SECRET_KEY": "a-secret-key-for-tests",
    "OFFLINE_MODE": "true",
    "HF_HUB_OFFLINE": "1",
    "RAG_EMBEDDING_ENGINE": "openai",
    "BYPASS_EMBEDDING_AND_RETRIEVAL": "true",
    "ENABLE_OLLAMA_API": "false",
    "ENABLE_PIP_INSTALL_FRONTMATTER_REQUIREMENTS": "false",
    "ENABLE_FORWARD_USER_INFO_HEADERS": "true",
    "OPENAI_API_BASE_URL": "http://127.0.0.1:9/v1",
    "ANONYMIZED_TELEMETRY": "false",
    "DO_NOT_TRACK": "true",
    "SCARF_NO_ANALYTICS": "true",
    # Our package, as if it was installed; its wheel has tests of its own.
    "PYTHONPATH": str(ROOT / "python"),
    "PYTHONDONTWRITEBYTECODE": "1",
    "OWUI_TRACKING_EXECUTABLE": str(PROGRAMS / "owui-token-tracking"),
}
# By default it has fifteen connections to PostgreSQL, which twenty streams of any pipe use up.
POOL = {"DATABASE_POOL_SIZE": "70"}


class OpenWebUI:
    """A running server with its administrator."""

    def __init__(self, database: Database, workers: int, environment: dict[str, str]) -> None:
        self.database = database
        folder = database.folder
        data, home = folder / "data", folder / "home"
        for made in (data, home):
            made.mkdir(exist_ok=True)
        settings = {
            **clean_environment(),
            **SETTINGS,
            "HOME": str(home),
            "DATA_DIR": str(data),
            "STATIC_DIR": str(folder / "static"),
            "DATABASE_URL": database.url,
            **(POOL if database.kind == "postgresql" and workers == 1 else {}),
            **environment,
        }
        log = folder / "open-webui.log"
        if workers > 1:
            # They would all make its tables at once, and end because others have.
            made = Program([sys.executable, "-c", "import open_webui.config"], settings, log)
            assert made.ended(READY) == 0, made.tail()
        # The socket is made here and inherited: no other program can take its port in between.
        with socket.create_server(("127.0.0.1", 0), backlog=2048) as listener:
            self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            command = [sys.executable, "-m", "uvicorn", "open_webui.main:app", "--fd", str(listener.fileno())]
            if workers > 1:
                command += ["--workers", str(workers), "--timeout-worker-healthcheck", str(HEALTHY)]
            self.program = Program(
                command, {"WEBUI_URL": self.url, **settings}, log, inherited=[listener.fileno()]
            )
        try:
            self._wait_until_ready()
            self.wait_for_workers(workers)
            self.admin = self._administrator()
        except BaseException as error:
            self.stop()
            error.add_note(self.program.tail())
            raise

    def stop(self) -> None:
        self.program.stop()
        until(lambda: not self.program.members(), "all that Open WebUI started has ended")

    def children(self) -> list[int]:
        """The process ids of the gateways that tracked pipes have started."""
        return self.program.members("owui-token-trac")

    def _wait_until_ready(self) -> None:
        def look() -> bool:
            if not self.program.is_running():
                raise RuntimeError("Open WebUI ended before it was ready")
            try:
                return httpx.get(f"{self.url}/ready", timeout=2).is_success
            except httpx.TransportError:
                return False

        until(look, "Open WebUI is ready", READY)

    def wait_for_workers(self, count: int) -> None:
        """Until so many have loaded Open WebUI, those that ended since included."""
        started = "Started server process"
        until(lambda: self.program.said().count(started) >= count, f"{count} workers have started", READY)

    def _administrator(self) -> Account:
        """The first user of a database is its administrator."""
        if self.database.rows('SELECT id FROM "user"'):
            return self._account("/api/v1/auths/signin", "admin")
        return self._account("/api/v1/auths/signup", "admin")

    def add_user(self, role: str = "user") -> Account:
        """A user whom nobody has seen before."""
        headers = {"Authorization": f"Bearer {self.admin.token}"}
        return self._account("/api/v1/auths/add", f"user-{uuid.uuid4().hex[:12]}", headers, role=role)

    def _account(self, path: str, name: str, headers: dict[str, str] | None = None, **more: str) -> Account:
        who = {"name": name, "email": f"{name}@example.com", "password": PASSWORD, **more}
        answer = httpx.post(f"{self.url}{path}", json=who, headers=headers, timeout=60)
        answer.raise_for_status()
        made = answer.json()
        return Account(self.url, made["id"], name, who["email"], PASSWORD, made["token"])

    # What the administrator sets up

    def connect(self, url: str, key: str, **config: Any) -> None:
        """Makes that OpenAI-compatible server the only connection. `headers` may hold templates."""
        connections = {
            "ENABLE_OPENAI_API": True,
            "OPENAI_API_BASE_URLS": [url],
            "OPENAI_API_KEYS": [key],
            "OPENAI_API_CONFIGS": {"0": {"enable": True, "connection_type": "external", "auth_type": "bearer", **config}},
        }
        self.admin.post("/openai/config/update", connections)
        self.models()

    def install_pipe(self, function: str, source: str, valves: dict[str, Any] | None = None) -> list[str]:
        """Adds a Function, sets its valves, enables it, and lets everyone use its models; returns their ids."""
        self.admin.post(
            "/api/v1/functions/create",
            {"id": function, "name": function, "content": source, "meta": {"description": "", "manifest": {}}},
        )
        if valves is not None:
            self.set_valves(function, valves)
        self.admin.post(f"/api/v1/functions/id/{function}/toggle", {})
        models = [model for model in self.models() if model == function or model.startswith(f"{function}.")]
        for model in models:
            self.add_model(model)
        return models

    def set_valves(self, function: str, valves: dict[str, Any]) -> None:
        self.admin.post(f"/api/v1/functions/id/{function}/valves/update", valves)

    def add_model(self, model: str, base: str | None = None, **meta: Any) -> None:
        """Lets everyone use a model; with `base`, a workspace model on it."""
        form = {"id": model, "base_model_id": base, "name": model, "meta": meta, "params": {}, "access_grants": PUBLIC}
        self.admin.post("/api/v1/models/create", form)
        self.models()

    def models(self) -> list[str]:
        """The ids of all models, asked anew."""
        return [model["id"] for model in self.admin.get("/api/models?refresh=true")["data"]]

    def set_tasks(self, **settings: Any) -> None:
        """Changes what Open WebUI asks models for beside the chat (its task settings)."""
        now = self.admin.get("/api/v1/tasks/config")
        self.admin.post("/api/v1/tasks/config/update", {**now, **settings})


@contextmanager
def running(database: Database, workers: int = 1, **environment: str) -> Iterator[OpenWebUI]:
    """Starts one and stops it."""
    server = OpenWebUI(database, workers, environment)
    try:
        yield server
    finally:
        server.stop()
