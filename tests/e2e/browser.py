"""A headless Chromium that signs in to Open WebUI, chats, and takes pictures of it."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urljoin

from playwright.sync_api import Page, sync_playwright

from account import Account
from processes import ROOT

TIMEOUT = 60_000


def chromium() -> str:
    """The path of a Chromium, installed if there is none."""
    return subprocess.run(
        [ROOT / "scripts" / "find-chromium"], stdout=subprocess.PIPE, text=True, check=True
    ).stdout.strip()


@contextmanager
def signed_in(account: Account) -> Iterator[Page]:
    """A page of Open WebUI on which this user has signed in by the form."""
    # Chromium refuses its sandbox to root; it only visits loopback here.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=arguments)
        try:
            page = browser.new_page(viewport={"width": 1280, "height": 900}, locale="en-US")
            page.set_default_timeout(TIMEOUT)
            page.goto(f"{account.url}/auth")
            page.locator('input[type="email"]').fill(account.email)
            page.locator('input[type="password"]').fill(account.password)
            page.locator('button[type="submit"]').click()
            page.wait_for_selector("#chat-input")
            yield page
        finally:
            browser.close()


def ask(page: Page, model: str, text: str) -> None:
    """Begins a new chat with a model."""
    page.goto(urljoin(page.url, f"/?models={model}"))
    page.locator("#chat-input").fill(text)
    page.locator("#send-message-button").click()


def answered(page: Page) -> None:
    """Waits until the last answer is complete: then it can be asked for again."""
    page.get_by_role("button", name="Regenerate").last.wait_for()


def usage(page: Page) -> str:
    """What the info bubble of the last answer says."""
    page.get_by_role("button", name="Info", exact=True).last.hover()
    return page.locator(".tippy-content").last.inner_text()


def picture(page: Page, path: Path) -> None:
    page.screenshot(path=path)
