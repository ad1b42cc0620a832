"""Pipes as people wrote them for version 0.1, as Functions of a real Open WebUI: same models, same answers, Stop charges."""

from collections.abc import Callable

import pytest

from open_webui import OpenWebUI
from processes import ROOT
from tab import open_tab
from test_tracked_ends import LONG, SECOND
from tracked import ASK, ONE, Tracked
from upstream import mark
from waiting import until

pytestmark = pytest.mark.smoke

IMPORTS = """
from openwebui_token_tracking.pipes import AnthropicTrackedPipe, OpenAITrackedPipe
from openwebui_token_tracking.pipes.base_tracked_pipe import TokenLimitExceededError
from openwebui_token_tracking.tracking import TokenTracker
"""
# What is overridden, and how; `URL` is the simulated server's.
SOURCES = {
    "copied": (ROOT / "tests" / "e2e" / "pipes" / "copied.py").read_text(),
    "synchronous": """
class Pipe(OpenAITrackedPipe):
    def pipes(self):
        return [model for model in super().pipes() if model["id"] in ("gpt-test", "free-test")]

    def pipe(self, body, __user__, __metadata__):
        return super().pipe(body, __user__, __metadata__)
""",
    "generator": """
class Pipe(OpenAITrackedPipe):
    def pipe(self, body, __user__, __metadata__):
        answer = super().pipe(body, __user__, __metadata__)
        return answer if isinstance(answer, dict) else (piece for piece in answer)
""",
    "alone": """
class Pipe(OpenAITrackedPipe):
    def pipe(self, body, __user__, __metadata__):
        model_id = __metadata__["model"]["id"].split(".", 1)[1]
        self._check_limits(model_id, __user__)
        asked = self._headers(), self._payload(model_id, body), model_id, __user__
        return self.stream_response(*asked) if body.get("stream") else self.non_stream_response(*asked)
""",
    "headers": """
class Pipe(OpenAITrackedPipe):
    def _headers(self):
        return {**super()._headers(), "X-Org": "physics"}
""",
    "sending": """
class Pipe(OpenAITrackedPipe):
    def _make_stream_request(self, headers, payload):
        tokens, pieces = super()._make_stream_request(headers, payload)
        return tokens, (piece for piece in pieces)

    def _make_non_stream_request(self, headers, payload):
        return super()._make_non_stream_request(headers, payload)
""",
    "responses": """
class Pipe(OpenAITrackedPipe):
    def stream_response(self, *given, **named):
        for piece in super().stream_response(*given, **named):
            yield piece

    def non_stream_response(self, *given, **named):
        return super().non_stream_response(*given, **named)
""",
    "limits": """
class Pipe(OpenAITrackedPipe):
    def _check_limits(self, model_id, user, sponsored_allowance_name=None):
        if model_id == "free-test":
            raise TokenLimitExceededError("for teachers only")
        return super()._check_limits(model_id, user, sponsored_allowance_name)
""",
    "tracker": """
class OneModel(TokenTracker):
    def is_paid(self, model_id):
        self.asked = model_id
        return True

    def _remaining_user_credits(self, user, sponsored_allowance_id):
        return 0 if self.asked == "free-test" else super()._remaining_user_credits(user, sponsored_allowance_id)

class Pipe(OpenAITrackedPipe):
    def __init__(self):
        super().__init__()
        self.token_tracker = OneModel()
""",
    "duck": """
class Duck:
    def get_models(self, provider=None):
        return [model for model in TokenTracker().get_models(provider) if model.id in ("gpt-test", "free-test")]

    def is_paid(self, model_id):
        self.left = 0 if model_id == "free-test" else 5
        return True

    def remaining_credits(self, user, sponsored_allowance_name=None):
        return self.left, None

    def log_token_usage(self, **used):
        pass

class Pipe(OpenAITrackedPipe):
    def __init__(self):
        super().__init__()
        self.token_tracker = Duck()
""",
    "url": """
class Pipe(AnthropicTrackedPipe):
    def __init__(self):
        super().__init__()
        self.url = "URL/anthropic/v1/messages"
""",
}
BLOCKS = ("limits", "tracker", "duck")
STOPS = ("copied", "synchronous", "generator", "alone", "sending", "responses")
Install = Callable[[str], str]


@pytest.fixture(scope="session")
def install(tracked: Tracked) -> Install:
    """Puts one of them into Open WebUI, once; returns the id of its model."""
    done: set[str] = set()
    root = tracked.upstream.url

    def put(name: str) -> str:
        function = f"own_{name}"
        model = f"{function}.{'claude-sonnet-4-5-test' if name == 'url' else 'gpt-test'}"
        if name not in done:
            done.add(name)
            source = SOURCES[name] if name == "copied" else IMPORTS + SOURCES[name]
            key = {"ANTHROPIC_API_KEY": "k"} if name == "url" else {"API_KEY": "k", "API_BASE_URL": f"{root}/v1"}
            models = tracked.open_webui.install_pipe(function, source.replace("URL", root) if name == "url" else source, key)
            assert model in models
        return model

    return put


@pytest.mark.parametrize("name", SOURCES)
def test_it_answers_and_charges(tracked: Tracked, install: Install, name: str) -> None:
    model, user = install(name), tracked.open_webui.add_user()
    answers = [user.ask(model, ASK, stream=stream) for stream in (False, True)]
    assert [answer.error for answer in answers] == ["", ""]
    assert answers[0].text == answers[1].text and answers[0].text.startswith("The answer")
    assert all(answer.usage is not None and answer.usage["credits"] > 0 for answer in answers)
    rows = tracked.rows(user.id, 2)
    assert [(row["input_tokens"], row["output_tokens"], row["outcome"]) for row in rows] == [(1000, 100, "complete")] * 2
    if name != "url":
        assert tracked.charge(user.id) == 2 * ONE


@pytest.mark.parametrize("name", BLOCKS)
def test_it_blocks(tracked: Tracked, install: Install, name: str) -> None:
    """Its own rule holds, although the model is free."""
    model, user = install(name).replace("gpt-test", "free-test"), tracked.open_webui.add_user()
    for stream in (False, True):
        assert user.ask(model, ASK, stream=stream).error
    assert tracked.ledger(user.id) == []


@pytest.mark.parametrize("name", STOPS)
def test_stop_charges(tracked: Tracked, install: Install, name: str) -> None:
    model, marked = install(name), mark()
    with open_tab(tracked.open_webui.add_user()) as tab:
        turn = tab.ask(model, f"{marked} [[sim {LONG}]]", background={})
        turn.began()
        until(lambda: tracked.upstream.only(marked)["produced"] >= SECOND, "a second of the answer")
        turn.stop()
        (row,) = tracked.rows(tab.account.id)
    produced = tracked.upstream.ended(marked, "cancelled")["produced"]
    assert row["outcome"] == "client_gone" and row["estimated"] and row["input_tokens"] > 0
    assert abs(row["output_tokens"] - produced) <= produced / 5


def test_the_button_in_two_lines(open_webui: OpenWebUI, tracked: Tracked) -> None:
    source = "from openwebui_token_tracking.actions import CreditBalance\n\nAction = CreditBalance\n"
    open_webui.install_pipe("own_button", source, {})
    there = {one["id"]: one for one in open_webui.admin.get("/api/v1/functions/")}
    assert there["own_button"]["type"] == "action" and there["own_button"]["is_active"]
