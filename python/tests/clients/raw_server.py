"""A model server that says the bytes it is told to, to the byte: what goes wrong on the wire can't be said by a well-behaved one.

It knows what to answer by the model that a request names, in its body or in its path."""

import re
import socketserver
import threading
from collections.abc import Callable, Iterable

# The head and the body of an answer from the request that asks for it, in pieces that go out one by one.
Answer = Callable[[str], Iterable[bytes]]
MODEL = re.compile(r'"model"\s*:\s*"([^"]+)"|/models/([^:/ ]+):')


def head(status: int, headers: dict[str, str]) -> bytes:
    """The head of an answer whose connection ends with it."""
    lines = [f"HTTP/1.1 {status} Words", "connection: close", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


def chunk(body: bytes) -> bytes:
    """A piece of a chunked body; an empty one ends it."""
    return f"{len(body):x}\r\n".encode() + body + b"\r\n"


class RawServer:
    """Listens while it is entered."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}

    def __enter__(self) -> "RawServer":
        running = self

        class Connection(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                request = self.request_text()
                if found := MODEL.search(request):
                    try:
                        for piece in running.answers[found[1] or found[2]](request):
                            self.wfile.write(piece)
                    except (BrokenPipeError, ConnectionResetError):
                        pass  # the client went away

            def request_text(self) -> str:
                lines, length = [], 0
                while (line := self.rfile.readline().decode()).strip():
                    name, _, value = line.partition(":")
                    length = int(value) if name.lower() == "content-length" else length
                    lines.append(line)
                return "".join(lines) + self.rfile.read(length).decode()

        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Connection)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=lambda: self.server.serve_forever(poll_interval=0.05), daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(timeout=10)
