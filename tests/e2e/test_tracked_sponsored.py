"""Sponsored allowances in a real Open WebUI: workspace models that an administrator made over covered models open them."""

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal

import pytest

from account import Account
from gateway import cost
from open_webui import PUBLIC
from tab import open_tab
from tracked import ANTHROPIC, ASK, MODEL, ONE, Tracked
from waiting import until



def allowance(tracked: Tracked, total: int, daily: int | None, models: tuple[str, ...] = ("gpt-test",)) -> str:
    """A new allowance, with a workspace model `{name}---gpt` made by the administrator."""
    name = f"course-{uuid.uuid4().hex[:8]}"
    covered = [flag for model in models for flag in ("-m", model)]
    limits = ["-t", str(total), *(["-d", str(daily)] if daily is not None else [])]
    tracked.run("sponsored", "create", "--sponsor-id", tracked.open_webui.admin.id, "--name", name, *covered, *limits)
    tracked.open_webui.add_model(f"{name}---gpt", base=MODEL)
    tracked.open_webui.add_model(f"{name}---claude", base=ANTHROPIC.named)
    # What an administrator changes counts within two seconds. This model is not covered, so asking it is free.
    admin = tracked.open_webui.admin
    until(lambda: "does not exist" not in admin.ask(f"{name}---claude", ASK).error, "the allowance is known")
    return name


def own(tracked: Tracked, user: Account) -> Decimal:
    """What a user has spent of their own."""
    (balance,) = tracked.json("balance", user.id)
    return Decimal(balance["spent"])


def sponsor_paid(tracked: Tracked, user: Account) -> list[bool]:
    return [row["sponsored_id"] is not None for row in tracked.ledger(user.id)]


def test_an_allowance_pays_for_chats_and_their_tasks(tracked: Tracked) -> None:
    name = allowance(tracked, total=1000, daily=100)
    with open_tab(tracked.open_webui.add_user()) as tab:
        message = tab.ask(f"{name}---gpt", ASK).wait()
        rows = tracked.rows(tab.account.id, 4)
    assert "error" not in message and message["content"]
    (line,) = [status["description"] for status in message["statusHistory"]]
    assert f"left of {name} until 20" in line
    assert sponsor_paid(tracked, tab.account) == [True] * 4 and own(tracked, tab.account) == 0
    assert {row["workspace_model"] for row in rows} == {f"{name}---gpt"}
    assert tracked.charge(tab.account.id) == 4 * ONE


@pytest.mark.smoke
def test_the_daily_limit_holds_for_each_user(tracked: Tracked) -> None:
    name, users = allowance(tracked, total=1000, daily=5), [tracked.open_webui.add_user() for _ in range(2)]
    for user in users:
        assert not user.ask(f"{name}---gpt", ASK).error
        refused = user.ask(f"{name}---gpt", ASK, stream=True)
        assert "daily limit of the sponsored allowance" in refused.error
        assert tracked.charge(user.id) == ONE and own(tracked, user) == 0
        # What is left of their own is not touched, and still there.
        assert not user.ask(MODEL, ASK).error
        assert own(tracked, user) == ONE


@pytest.mark.parametrize("daily", [None, 100], ids=["without a daily limit", "with one"])
def test_the_total_limit_holds_for_all_together(tracked: Tracked, daily: int | None) -> None:
    name = allowance(tracked, total=9, daily=daily)
    first, second, third = (tracked.open_webui.add_user() for _ in range(3))
    assert not first.ask(f"{name}---gpt", ASK).error
    assert not second.ask(f"{name}---gpt", ASK).error
    refused = third.ask(f"{name}---gpt", ASK)
    assert "total limit of the sponsored allowance" in refused.error
    assert tracked.charge(third.id) == 0 and own(tracked, third) == 0


def test_a_model_that_is_not_covered_is_refused(tracked: Tracked) -> None:
    name, user = allowance(tracked, total=1000, daily=None), tracked.open_webui.add_user()
    refused = user.ask(f"{name}---claude", ASK)
    assert name in refused.error and ANTHROPIC.model in refused.error
    assert tracked.ledger(user.id) == []


def test_an_allowance_that_does_not_exist_is_refused(tracked: Tracked) -> None:
    name, user = f"nothing-{uuid.uuid4().hex[:8]}", tracked.open_webui.add_user()
    tracked.open_webui.add_model(f"{name}---gpt", base=MODEL)
    assert name in user.ask(f"{name}---gpt", ASK).error
    assert tracked.ledger(user.id) == []


@contextmanager
def users_may_make_models(tracked: Tracked) -> Iterator[None]:
    admin, path = tracked.open_webui.admin, "/api/v1/users/default/permissions"
    before = admin.get(path)
    admin.post(path, {**before, "workspace": {**before["workspace"], "models": True}})
    try:
        yield
    finally:
        admin.post(path, before)


@pytest.mark.smoke
def test_a_users_own_workspace_model_that_is_named_alike_opens_nothing(tracked: Tracked) -> None:
    name, user = allowance(tracked, total=1000, daily=None), tracked.open_webui.add_user()
    mine = {"id": f"{name}---mine", "base_model_id": MODEL, "name": "Mine", "meta": {}, "params": {}}
    with users_may_make_models(tracked):
        user.post("/api/v1/models/create", {**mine, "access_grants": PUBLIC})
    tracked.open_webui.models()
    with open_tab(user) as tab:
        message = tab.ask(f"{name}---mine", ASK).wait()
    assert name in str(message["error"]) and not message.get("content")
    assert user.ask(f"{name}---mine", ASK).error
    assert tracked.ledger(user.id) == []


def test_side_by_side_each_model_is_paid_by_its_own_payer(tracked: Tracked) -> None:
    """Whichever stands first."""
    name = allowance(tracked, total=1000, daily=None)
    sponsored = f"{name}---gpt"
    for models in ([MODEL, sponsored], [sponsored, ANTHROPIC.named], [sponsored, MODEL]):
        with open_tab(tracked.open_webui.add_user()) as tab:
            turn = tab.ask(models, ASK, background={})
            for answer in turn.answers:
                assert "error" not in tab.account.finished_message(turn.chat, answer)
            rows = {row["message_id"]: row for row in tracked.rows(tab.account.id, 2)}
        paid = [rows[answer]["sponsored_id"] is not None for answer in turn.answers]
        assert paid == [model == sponsored for model in models], models
        assert own(tracked, tab.account) == ONE == cost("gpt-test", 1000, 100)


def test_published_models_are_for_the_members_and_shown_once(tracked: Tracked) -> None:
    """`sponsored publish` shows the models of the allowance's own, and hides the workspace models that it made before."""
    member, other, name = tracked.open_webui.add_user(), tracked.open_webui.add_user(), f"course {uuid.uuid4().hex[:8]}"
    admin, handle = tracked.open_webui.admin, name.replace(" ", "-")
    tracked.run(
        *("sponsored", "create", "--sponsor-id", admin.id, "--name", name, "-m", "openai/gpt-test", "-t", "1000"),
        *("--member-user", member.id),
    )
    thin, offered = f"{handle}---gpt-test", f"openai.sponsored/{handle}/gpt-test"
    until(lambda: offered in tracked.open_webui.models(), "the pipe lists the allowance's model")
    publish = ["sponsored", "publish", name, "--url", tracked.open_webui.url, "--token", admin.token]
    # As it was made while Open WebUI listed no model of the allowance's own.
    (allowance,) = tracked.json("sponsored", "get", "--name", name)
    made = {"id": thin, "base_model_id": MODEL, "name": thin, "meta": {"sponsored_allowance": allowance["id"]}, "params": {}}
    grant = {"principal_type": "user", "principal_id": member.id, "permission": "read"}
    admin.post("/api/v1/models/create", {**made, "access_grants": [grant]})
    tracked.run(*publish)
    assert {thin, offered} <= set(member.models()) and not {thin, offered} & set(other.models())
    seen = {model["id"]: model["info"]["meta"] for model in member.get("/api/models")["data"] if model.get("info")}
    assert [bool(seen[model].get("hidden")) for model in (thin, offered)] == [True, False]
    for model in (thin, offered):
        with open_tab(member) as tab:
            message = tab.ask(model, ASK).wait()
        assert "error" not in message and message["content"]
    tracked.rows(member.id, 8)
    assert sponsor_paid(tracked, member) == [True] * 8 and own(tracked, member) == 0
    assert {step["step"] for step in json.loads(tracked.run(*publish, "--format", "json"))} == {"keep"}
    tracked.run("sponsored", "unpublish", name, *publish[3:])
    assert not {thin, offered} & set(member.models())
