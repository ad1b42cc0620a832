"""A plain pipe Function in Open WebUI: that this suite drives pipes rightly, and what tracked pipes are compared with."""

import pytest

from account import error_text
from open_webui import OpenWebUI
from processes import ROOT
from tab import open_tab

pytestmark = pytest.mark.smoke
SOURCE = (ROOT / "tests" / "e2e" / "pipes" / "untracked.py").read_text()
MODEL = "untracked.gpt-test"
ASK = "[[sim input=10 output=20 text=Servus]]"
FAIL = "[[sim status=500]]"


@pytest.fixture(scope="session")
def pipe(open_webui: OpenWebUI, simulator: str) -> None:
    models = open_webui.install_pipe("untracked", SOURCE, {"API_BASE_URL": f"{simulator}/v1", "API_KEY": "any"})
    assert models == [MODEL]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_it_answers_the_api(open_webui: OpenWebUI, pipe: None, stream: bool) -> None:
    answer = open_webui.add_user().ask(MODEL, ASK, stream=stream)
    assert not answer.error
    assert answer.text == "Servus"


def test_it_answers_the_browser(open_webui: OpenWebUI, pipe: None) -> None:
    with open_tab(open_webui.add_user()) as tab:
        message = tab.ask(MODEL, ASK).wait()
    assert message["content"] == "Servus"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_an_error_before_the_answer_reaches_the_api(open_webui: OpenWebUI, pipe: None, stream: bool) -> None:
    answer = open_webui.add_user().ask(MODEL, FAIL, stream=stream)
    # Open WebUI says 200 also then.
    assert answer.status == 200 and answer.error.startswith("simulated error 500")


def test_an_error_before_the_answer_is_shown_in_the_browser(open_webui: OpenWebUI, pipe: None) -> None:
    with open_tab(open_webui.add_user()) as tab:
        message = tab.ask(MODEL, FAIL).wait()
    assert error_text(message["error"]).startswith("simulated error 500") and not message.get("content")


def test_two_models_answer_side_by_side(open_webui: OpenWebUI, pipe: None, simulator: str) -> None:
    """Each answer is of its own model."""
    open_webui.set_valves(
        "untracked", {"API_BASE_URL": f"{simulator}/v1", "API_KEY": "any", "MODELS": "gpt-test,free-test"}
    )
    open_webui.add_model("untracked.free-test")
    with open_tab(open_webui.add_user()) as tab:
        turn = tab.ask([MODEL, "untracked.free-test"], ASK)
        turn.wait()
        messages = [turn.account.finished_message(turn.chat, answer) for answer in turn.answers]
    assert [message["model"] for message in messages] == [MODEL, "untracked.free-test"]
    assert [message["content"] for message in messages] == ["Servus", "Servus"]
