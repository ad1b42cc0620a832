"""The private gateway of this process: ``owui-token-tracking worker``, started when it is first needed.

It runs beside this process and never inside it: two copies of SQLite in one process would break each other's locks. It ends
when this process does, because its standard input ends then. After a fork the new process starts its own. With
``OWUI_TRACKING_URL`` and ``OWUI_TRACKING_KEY`` that gateway is used, and nothing is started.
"""

import atexit
import json
import os
import secrets
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import IO

from openwebui_token_tracking import threads
from openwebui_token_tracking.client import Endpoint, Gateway, LocalClient
from openwebui_token_tracking.errors import GatewayGoneError, LocalError
from openwebui_token_tracking.executable import ExecutableNotFoundError, environment, find
from openwebui_token_tracking.said import Said, masked

__all__ = ["Child", "LocalError", "Remote", "close", "gateway", "local"]

# Seconds until a start counts as failed: an upgrade of a large database happens in it.
_START = 60.0
# Seconds for which a failed start is not repeated, so that many requests at a time don't start many processes.
_PAUSE = 1.0
# Seconds that the end of this process waits for the last charges.
_DRAIN = 10.0
# Seconds to wait for the end of a process that no longer listens.
_LOST = 2.0
# A socket's path can't be longer, on any system (sockaddr_un).
_LONGEST_PATH = 100
# What the folder of a private gateway is called, and its socket in it.
_PREFIX = "token-tracking-"
_SOCKET = "gateway.sock"


class Remote:
    """A gateway that somebody else runs."""

    is_private = False

    def __init__(self, url: str, key: str) -> None:
        self._endpoint = Endpoint(url.rstrip("/").removesuffix("/v1"), key)

    def endpoint(self) -> Endpoint:
        return self._endpoint

    async def ready(self) -> Endpoint:
        return self._endpoint

    def lost(self, endpoint: Endpoint) -> None:
        pass


class Child:
    """The private gateway on one database."""

    is_private = True

    def __init__(self, database_url: str | None) -> None:
        self._database_url = database_url
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._endpoint: Endpoint | None = None
        self._folder: str | None = None
        self._failed: tuple[float, GatewayGoneError] | None = None

    @property
    def pid(self) -> int | None:
        """The process id, while it runs."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def endpoint(self) -> Endpoint:
        with self._lock:
            running = self._running()
            if running is not None:
                return running
            if self._failed is not None and time.monotonic() - self._failed[0] < _PAUSE:
                raise self._failed[1]
            try:
                return self._start()
            except GatewayGoneError as error:
                self._clear()
                self._failed = (time.monotonic(), error)
                raise

    async def ready(self) -> Endpoint:
        running = self._running()
        return running if running is not None else await threads.run(self.endpoint)

    def lost(self, endpoint: Endpoint) -> None:
        process = self._process
        if process is None or endpoint != self._endpoint:
            return
        try:
            process.wait(_LOST)
        except subprocess.TimeoutExpired:
            pass

    def let_go(self) -> None:
        """Lets it end, as this process's end would: it drains, and settles what is open."""
        process = self._process
        if process is not None:
            _close(process.stdin)

    def stop(self, patience: float = _DRAIN) -> None:
        """Lets it end, and waits for that so many seconds at most."""
        with self._lock:
            process = self._process
            if process is not None:
                _close(process.stdin)
                try:
                    process.wait(patience)
                except subprocess.TimeoutExpired:
                    # It goes on draining; what it can't settle any more, the next one does.
                    pass
            self._clear()

    def forked(self) -> None:
        """In a new process after a fork: the child is the old process's, and must notice that one's end."""
        process = self._process
        self._lock = threading.Lock()
        self._process = self._endpoint = self._folder = self._failed = None
        if process is None:
            return
        # Not waited for, and not closed: the threads that use these files are the old process's.
        process.returncode = 0
        nothing = os.open(os.devnull, os.O_RDWR)
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None and not pipe.closed:
                os.dup2(nothing, pipe.fileno(), inheritable=False)
        os.close(nothing)

    def _running(self) -> Endpoint | None:
        process, endpoint = self._process, self._endpoint
        return endpoint if process is not None and process.poll() is None else None

    def _start(self) -> Endpoint:
        self._clear()
        key = secrets.token_urlsafe(32)
        greeting = {"key": key}
        if hasattr(socket, "AF_UNIX") and os.name != "nt":
            self._folder = _private_folder()
            greeting["socket"] = str(Path(self._folder, _SOCKET))
        else:
            greeting["listen"] = "127.0.0.1:0"
        try:
            process = subprocess.Popen(
                [find(), "worker"],
                env=environment(self._database_url),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                # No buffers: their locks would survive a fork, and the end of the interpreter, in threads that don't.
                bufsize=0,
            )
        except ExecutableNotFoundError as error:
            raise GatewayGoneError(f"Credits can't be tracked: {error}.") from None
        except OSError as error:
            raise GatewayGoneError(
                f"Credits can't be tracked: the executable does not start ({error}).",
                "Credits can't be tracked: the executable does not start. Please tell your administrator.",
            ) from None
        self._process = process
        said = Said(process)
        try:
            assert process.stdin is not None
            process.stdin.write(json.dumps(greeting).encode() + b"\n")
        except OSError:
            pass  # It has ended already; what it said tells why.
        where = said.where(_START)
        if where is None:
            process.kill()
            process.wait()
            why = said.why()
            raise GatewayGoneError(f"Credits can't be tracked: {why}", f"Credits can't be tracked: {masked(why)}")
        self._endpoint = Endpoint(where or "http://localhost", key, greeting.get("socket"))
        self._failed = None
        return self._endpoint

    def _clear(self) -> None:
        if self._process is not None:
            _close(self._process.stdin)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._process = self._endpoint = self._folder = None


def _private_folder() -> str:
    """A new folder that only this user can open (mode 0700). Those of processes that were killed are removed."""
    for place in {tempfile.gettempdir(), "/tmp"}:
        _remove_left_folders(Path(place))
    folder = tempfile.mkdtemp(prefix=_PREFIX)
    if len(folder) + len("/") + len(_SOCKET) <= _LONGEST_PATH:
        return folder
    os.rmdir(folder)
    return tempfile.mkdtemp(prefix=_PREFIX, dir="/tmp")


def _remove_left_folders(place: Path) -> None:
    """Removes folders of ours in which nobody listens any more, and which are too old to belong to a start under way."""
    try:
        folders = list(place.glob(f"{_PREFIX}*"))
    except OSError:
        return
    for folder in folders:
        try:
            found = folder.lstat()
            is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
            # The time of a folder is that of its last change: when the socket was made.
            if is_ours and time.time() - found.st_mtime > _START and not _is_heard(folder / _SOCKET):
                # Nothing else is ever in it; with something else in it, it stays.
                (folder / _SOCKET).unlink(missing_ok=True)
                folder.rmdir()
        except OSError:
            pass  # Somebody else removes it, or uses it in another way.


def _is_heard(path: Path) -> bool:
    """Whether somebody listens on a socket; in doubt, yes."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(1.0)
        try:
            connection.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            pass
    return True


def _close(pipe: IO[bytes] | None) -> None:
    if pipe is not None:
        try:
            pipe.close()
        except OSError:
            pass  # What was not written is for nobody.


_children: dict[str | None, Child] = {}
_lock = threading.Lock()


def named_database() -> str | None:
    """Open WebUI's database when inside it, else what the environment names."""
    inside = sys.modules.get("open_webui.env")
    return getattr(inside, "DATABASE_URL", None) or os.environ.get("DATABASE_URL") or None


def gateway(database_url: str | None = None) -> Gateway:
    """The gateway for a database; ``None`` is the one that ``OWUI_TRACKING_URL`` or the environment names."""
    remote = os.environ.get("OWUI_TRACKING_URL")
    if database_url is None and remote:
        return Remote(remote, os.environ.get("OWUI_TRACKING_KEY", ""))
    url = database_url or named_database()
    with _lock:
        return _children.setdefault(url, Child(url))


def local(database_url: str | None = None) -> LocalClient:
    """A blocking client of that gateway."""
    return LocalClient(gateway(database_url))


def close(database_url: str | None = None) -> None:
    """Ends the private gateway on a database, after what is open there is settled. The next call starts it again."""
    with _lock:
        known = _children.pop(database_url or named_database(), None)
    if known is not None:
        known.stop()


def _stop_all() -> None:
    until = time.monotonic() + _DRAIN
    children = list(_children.values())
    for child in children:
        child.let_go()
    for child in children:
        child.stop(max(0.0, until - time.monotonic()))


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()
    for child in _children.values():
        child.forked()


atexit.register(_stop_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
