"""Stands between the gateway and the simulated server, which calls the first tool of a request, always with a city. An agent has
tools of its own: a message that says `[[call NAME: argument=value | argument=value end]]` gets a call of that tool with those
arguments, if the request offers it. And what Anthropic's API takes and the simulated server does not know is left out: it refuses
unknown fields, as the real one does."""

import http.client
import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

# Without quotation marks: clients quote what people say.
CALL = re.compile(r"\[\[call (\w+): (.*?) end\]\]")
# What the simulated server says to call a tool with.
CITY = {"city": "Bern"}
HEADERS = ("content-type", "authorization", "x-api-key", "anthropic-version", "anthropic-beta", "accept")


class Relay:
    """Runs until it is closed."""

    def __init__(self, simulator: str) -> None:
        handler = type("Bound", (Handler,), {"simulator": urlsplit(simulator).netloc})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    simulator = ""

    def do_GET(self) -> None:
        self._pass(b"", None)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        self._pass(*ordered(body))

    def _pass(self, body: bytes, arguments: dict[str, str] | None) -> None:
        headers = {name: self.headers[name] for name in HEADERS if name in self.headers}
        asked = http.client.HTTPConnection(self.simulator, timeout=60)
        try:
            asked.request(self.command, self.path, body or None, headers)
            answer = asked.getresponse()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("content-length", "transfer-encoding", "connection", "date"):
                    self.send_header(name, value)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for line in answer:
                line = called(line, arguments) if arguments else line
                self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
            self.wfile.write(b"0\r\n\r\n")
        finally:
            asked.close()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing."""


def ordered(body: bytes) -> tuple[bytes, dict[str, str] | None]:
    """The request as the simulated server understands it, and the arguments that the call shall have."""
    request = json.loads(body)
    if "max_tokens" in request and "system" in request:
        known(request)
        body = json.dumps(request, ensure_ascii=False).encode()
    messages = request.get("messages") or request.get("input")
    last = messages[-1] if isinstance(messages, list) else messages
    found = list(CALL.finditer(text(last)))
    if not found:
        return body, None
    call = found[-1]
    name, arguments = call[1], dict(part.split("=", 1) for part in call[2].split(" | "))
    tools = request.get("tools") or []
    chosen = [tool for tool in tools if name in (tool.get("name"), tool.get("function", {}).get("name"))]
    if not chosen:
        return body, None
    request["tools"] = chosen + [tool for tool in tools if tool not in chosen]
    return json.dumps(request, ensure_ascii=False).replace(call[0], "[[sim tool=1 thinking=4]]").encode(), arguments


def known(request: dict[str, Any]) -> None:
    """Makes a request for a message one that the simulated server knows: without system texts amid the conversation (beta
    `mid-conversation-system-2026-04-07`) and without tools whose input comes as it is made (`eager_input_streaming`)."""
    messages = request["messages"]
    amid = [message for message in messages if message["role"] == "system"]
    request["messages"] = [message for message in messages if message["role"] != "system"]
    if isinstance(request["system"], list):
        request["system"] += [{"type": "text", "text": text(message["content"])} for message in amid]
    for tool in request.get("tools") or []:
        tool.pop("eager_input_streaming", None)


def text(value: Any) -> str:
    """All texts in a value."""
    if isinstance(value, str):
        return value
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return "\n".join(map(text, inner))


def called(line: bytes, arguments: dict[str, str]) -> bytes:
    """A line of the answer with these arguments instead of the city, as an object and as a text in a text."""
    ours, theirs = json.dumps(CITY, separators=(",", ":")), json.dumps(arguments, separators=(",", ":"))
    pairs = [(ours, theirs)]
    # A stream has them in two pieces.
    pairs += zip(ours.partition(":")[::2], theirs.partition(":")[::2], strict=True)
    for old, new in [*((as_text(old), as_text(new)) for old, new in pairs), pairs[0]]:
        line = line.replace(old.encode(), new.encode())
    return line


def as_text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]
