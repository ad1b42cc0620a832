"""A server between the gateway and the simulated one that notes the headers and the path of each request."""

import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Recorder:
    """What has come."""

    url: str
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def values(self, header: str) -> list[str | None]:
        """A header of each request."""
        return [headers.get(header.lower()) for _, headers in self.requests]


@contextmanager
def recording(root: str) -> Iterator[Recorder]:
    """Hands requests on to a server, and whole answers back."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            recorder.requests.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
            content = self.rfile.read(int(self.headers["Content-Length"]))
            passed = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "accept-encoding")}
            try:
                answer = urllib.request.urlopen(urllib.request.Request(root + self.path, content, passed), timeout=30)
            except urllib.error.HTTPError as error:
                answer = error
            with answer:
                body = answer.read()
                self.send_response(answer.status)
                self.send_header("Content-Type", answer.headers["Content-Type"])
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    recorder = Recorder(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield recorder
    finally:
        server.shutdown()
        server.server_close()
