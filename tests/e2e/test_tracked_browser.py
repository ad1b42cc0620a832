"""The tracked pipes in a real browser. The pictures stay in pytest's temporary folder."""

import re
from pathlib import Path

from playwright.sync_api import expect

import browser
from tracked import ANTHROPIC, MODEL, Tracked


def test_a_chat_with_its_credits(tracked: Tracked, tmp_path: Path) -> None:
    """A line above the answer, and the info bubble."""
    with browser.signed_in(tracked.open_webui.add_user()) as page:
        browser.ask(page, ANTHROPIC.named, "[[sim input=1000 output=100 text=Servus]]")
        expect(page.locator(".chat-assistant").first).to_contain_text("Servus")
        browser.answered(page)
        expect(page.locator("#messages-container")).to_contain_text(re.compile("4.5 credits used, [0-9.]+ left until 20"))
        browser.picture(page, tmp_path / "chat.png")
        assert "credits: 4.5\n" in browser.usage(page)
        browser.picture(page, tmp_path / "usage.png")


def test_a_limit_that_is_reached(tracked: Tracked, tmp_path: Path) -> None:
    user = tracked.open_webui.add_user()
    assert not user.ask(MODEL, "[[sim input=400000 output=0]]").error
    with browser.signed_in(user) as page:
        browser.ask(page, MODEL, "Hello?")
        expect(page.locator("#messages-container")).to_contain_text("Your daily credit limit is reached")
        browser.picture(page, tmp_path / "limit.png")


def test_an_error_of_the_provider(tracked: Tracked, tmp_path: Path) -> None:
    with browser.signed_in(tracked.open_webui.add_user()) as page:
        browser.ask(page, ANTHROPIC.named, "Please fail. [[sim status=500]]")
        box = page.locator(".chat-assistant").last
        expect(box).to_contain_text("the model server had a fault")
        browser.picture(page, tmp_path / "error.png")
        assert "sk-simulated" not in box.inner_text() and "{" not in box.inner_text()


def test_the_balance_button(tracked: Tracked, tmp_path: Path) -> None:
    with browser.signed_in(tracked.open_webui.add_user()) as page:
        browser.ask(page, MODEL, "[[sim input=1000 output=100 text=Servus]]")
        browser.answered(page)
        page.get_by_role("button", name="Credits left").last.click()
        expect(page.locator("#messages-container")).to_contain_text("Credits today:")
        expect(page.locator("#messages-container")).to_contain_text("of 1,000 left (reset at 20")
        browser.picture(page, tmp_path / "balance.png")
