"""What the child says: where it listens, on its standard output; its log, and why it ended, on its standard error."""

import os
import queue
import re
import subprocess
import threading
from collections.abc import Iterator
from typing import IO


# Where something listens, or lies: a URL, an address with or without a port, a host with a port.
_ADDRESS = re.compile(
    r"""[a-z][a-z0-9+.-]*:/[^\s'",;)]*|\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?|\[?[0-9a-f]*:[0-9a-f:]*:[0-9a-f.:]*\]?(?::\d+)?"""
    r"""|[a-z0-9_.-]+:\d{2,5}\b|(?<=\bhost ).+?(?=[\s,;]|$)|(?<=\bport )\d+""",
    re.IGNORECASE,
)


def masked(text: str) -> str:
    """Text of an administrator for a user: without addresses."""
    return _ADDRESS.sub("***", text)


class Said:
    """Listens to a child. Its log is passed on to our own standard error."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._first: queue.Queue[str] = queue.Queue()
        self._last = "it ended without saying why"
        assert process.stdout is not None and process.stderr is not None
        self._log = threading.Thread(target=self._pass_on, args=(process.stderr,), daemon=True)
        self._log.start()
        threading.Thread(target=self._listen, args=(process.stdout,), daemon=True).start()

    def where(self, seconds: float) -> str | None:
        """The URL where it listens (empty for a socket), or ``None`` if it ended or said nothing."""
        try:
            line = self._first.get(timeout=seconds)
        except queue.Empty:
            self._last = f"it was not ready within {seconds:.0f} seconds"
            return None
        where = line.strip().removeprefix("listening on ")
        if not line:
            return None
        return "" if where.startswith("unix:") else where

    def why(self) -> str:
        """Its last error."""
        self._log.join(1.0)
        return self._last

    def _listen(self, output: IO[bytes]) -> None:
        with output:
            for number, line in enumerate(_lines(output)):
                if number == 0:
                    self._first.put(line.decode(errors="replace"))
        self._first.put("")

    def _pass_on(self, log: IO[bytes]) -> None:
        with log:
            for line in _lines(log):
                if line.startswith(b"error: "):
                    self._last = line.decode(errors="replace").strip().removeprefix("error: ")
                try:
                    os.write(2, line)
                except OSError:
                    pass  # Our own standard error is closed.


def _lines(pipe: IO[bytes]) -> Iterator[bytes]:
    rest = b""
    while data := pipe.read(65536):
        *lines, rest = (rest + data).split(b"\n")
        yield from (line + b"\n" for line in lines)
    if rest:
        yield rest + b"\n"
