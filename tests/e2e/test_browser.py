"""Open WebUI in a real browser, with our gateway as its connection. The pictures stay in pytest's temporary folder."""

from pathlib import Path

from playwright.sync_api import expect

import browser
from gateway import Gateway
from open_webui import OpenWebUI


def test_a_chat_in_the_browser(open_webui: OpenWebUI, gateway: Gateway, tmp_path: Path) -> None:
    user = open_webui.add_user()
    with browser.signed_in(user) as page:
        browser.ask(page, "gpt-test", "[[sim input=1000 output=100 text=Servus]]")
        expect(page.locator(".chat-assistant").first).to_contain_text("Servus")
        browser.answered(page)
        assert "credits: 4.5\n" in browser.usage(page)
        browser.picture(page, tmp_path / "chat.png")


def test_the_limit_in_the_browser(open_webui: OpenWebUI, gateway: Gateway, tmp_path: Path) -> None:
    user = open_webui.add_user()
    assert not user.ask("gpt-test", "[[sim input=400000 output=0]]").error
    with browser.signed_in(user) as page:
        browser.ask(page, "gpt-test", "Hello?")
        expect(page.locator("#messages-container")).to_contain_text("Your daily credit limit is reached")
        browser.picture(page, tmp_path / "limit.png")
