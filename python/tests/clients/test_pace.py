"""No event waits for the next one. There is no clock in this: the server says an event only once the client has read, through the
gateway, all that it could have read at the server itself of the events before.

Two things wait on purpose, and nothing here asks for them: the head of a stream for its first event, so that an error in its
place has a status; the end (finish reason, usage) until the charge is committed."""

import threading
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from functools import partial

import pytest
from cases import Case, cases
from programs import KEY, Gateway
from raw_server import RawServer, chunk
from reading import NAMES, Place, Reader, Reading, anthropic_messages, openai_chat, openai_responses, read, readers

# Only a failure takes so long.
SECONDS = 20
PLAIN = (openai_chat, openai_responses, anthropic_messages)
STREAMS = [
    (case, pair)
    for case in cases()
    # What is compressed comes apart in other places.
    if case.stream and case.status == 200 and not case.content_encoding
    for pair in readers(case)
    if pair[1] in PLAIN
]


class Handshake:
    """Says a case event by event, each when its client has what came before."""

    def __init__(self, case: Case, expected: list[Reading]) -> None:
        self.case, self.expected = case, expected
        self.heard = threading.Condition()
        self.reading = Reading()
        self.late: list[str] = []

    def has_read(self, expected: Reading) -> bool:
        """Whether the client has read all of that."""
        ours, theirs = so_far(self.reading), so_far(expected)
        return (
            expected.text in self.reading.text
            and expected.thinking in self.reading.thinking
            and len(ours) >= len(theirs)
            and all(one.startswith(other) for one, other in zip(ours, theirs, strict=False))
        )

    def hear(self, reading: Reading) -> None:
        """What the client has read by now."""
        with self.heard:
            self.reading = deepcopy(reading)
            self.heard.notify_all()

    def answer(self, _: str) -> Iterator[bytes]:
        """The case, as the server says it."""
        yield self.case.head()
        for event, expected in zip(self.case.events, self.expected, strict=True):
            with self.heard:
                if not self.late and not self.heard.wait_for(partial(self.has_read, expected), SECONDS):
                    self.late.append(f"before {event!r} it has read {self.reading} and not yet {expected}")
            yield chunk(event)
        if not self.case.breaks_off:
            yield chunk(b"")


def so_far(reading: Reading) -> list[str]:
    """The calls as far as they have come, without the spaces of their arguments."""
    return ["".join(f"{call.name}({call.arguments}".split()) for call in reading.calls.values()]


def before_each_event(case: Case, reader: Reader, server: RawServer) -> list[Reading]:
    """What can be read at the server itself, before each event."""
    found = [Reading()]
    for count in range(1, len(case.events)):
        part = replace(case, body=b"".join(case.events[:count]).decode(), file=None, base64=None)
        server.answers[case.model] = part.answer
        found.append(read(reader, Place(server.url), part))
    return found


@pytest.mark.parametrize(("case", "pair"), STREAMS, ids=[f"{case.name}, {NAMES[pair[1]]}" for case, pair in STREAMS])
def test_a_client_reads_each_event_before_the_next_is_said(
    server: RawServer, behind: Gateway, case: Case, pair: tuple[Reader, Reader]
) -> None:
    at_server, through = pair
    try:
        handshake = Handshake(case, before_each_event(case, at_server, server))
        server.answers[case.model] = handshake.answer
        gateway = Place(behind.url.removesuffix("/v1"), KEY, behind.new_user())
        read(through, gateway, case, handshake.hear)
    finally:
        server.answers[case.model] = case.answer
    assert not handshake.late, handshake.late[0]
