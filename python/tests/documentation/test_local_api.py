"""The OpenAPI document says what the gateway does: every operation is called, and every answer has the form it promises."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate

from openwebui_token_tracking import child, executable

DOCUMENT: dict[str, Any] = json.loads((Path(__file__).parents[3] / "docs" / "local-api.json").read_text("utf-8"))
METHODS = ("get", "post", "put", "patch", "delete")
OPERATIONS = {(method, path) for path, item in DOCUMENT["paths"].items() for method in METHODS if method in item}
USAGE = {"prompt_tokens": 1000, "completion_tokens": 100, "prompt_tokens_details": {"cached_tokens": 10}}
ASKING = {"user": "ann", "provider": "openai", "model": "gpt-test"}
UNKNOWN = "019abcde-0000-7000-8000-000000000001"


def resolved(node: dict[str, Any]) -> dict[str, Any]:
    """What a reference refers to."""
    if "$ref" not in node:
        return node
    found: Any = DOCUMENT
    for step in node["$ref"].removeprefix("#/").split("/"):
        found = found[step]
    return dict(found)


def check(value: object, schema: dict[str, Any]) -> None:
    """Raises if a value does not have the form."""
    OAS31Validator({**schema, "components": DOCUMENT["components"]}).validate(value)


class Checked:
    """A client of a worker that compares each call with the document."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client
        self.called: set[tuple[str, str]] = set()

    def __call__(self, method: str, path: str, status: int, body: Any = None, **more: Any) -> Any:
        """One call. ``id`` stands in the path; other parameters are the query's; ``valid`` whether the body is."""
        id = more.pop("id") if "{id}" in path else None
        headers, valid = more.pop("headers", None), more.pop("valid", True)
        operation = DOCUMENT["paths"][path][method]
        self.called.add((method, path))
        parameters = [resolved(one) for one in operation.get("parameters", [])]
        assert set(more) <= {one["name"] for one in parameters if one["in"] == "query"}
        assert {one["name"] for one in parameters if one["in"] == "query" and one.get("required")} <= set(more)
        if valid:
            assert ("requestBody" in operation) == (body is not None)
        if body is not None and valid:
            check(body, operation["requestBody"]["content"]["application/json"]["schema"])
        answer = self.client.request(method, path.format(id=id), params=more, json=body, headers=headers)
        assert answer.status_code == status, answer.text
        promised = resolved(operation["responses"][str(status)])
        if not answer.content:
            assert "content" not in promised
            return None
        assert answer.headers["content-type"] == "application/json"
        content = answer.json()
        check(content, promised["content"]["application/json"]["schema"])
        return content


@pytest.fixture
def call(url: str) -> Iterator[Checked]:
    """The client of a worker on a database with one model."""
    costs = ["--input-cost-credits", "3000", "--output-cost-credits", "15000"]
    executable.run("pricing", "add", "--provider", "openai", "--id", "gpt-test", "--name", "Test", *costs)
    endpoint = child.gateway(url).endpoint()
    # A connection for each call: the gateway ends one on which it refused a request before its body had come.
    alone = httpx.Limits(max_keepalive_connections=0)
    transport = httpx.HTTPTransport(uds=endpoint.socket_path, limits=alone) if endpoint.socket_path else None
    key = {"Authorization": f"Bearer {endpoint.key}"}
    with httpx.Client(base_url=endpoint.url, headers=key, transport=transport, limits=alone, timeout=60) as client:
        yield Checked(client)


def test_is_valid() -> None:
    validate(DOCUMENT)


def test_its_examples_are_valid() -> None:
    for item in DOCUMENT["paths"].values():
        for operation in (item[method] for method in METHODS if method in item):
            contents = [operation.get("requestBody", {}), *map(resolved, operation["responses"].values())]
            for content in (one["content"] for one in contents if "content" in one):
                for form in content.values():
                    if "example" in form:
                        check(form["example"], form["schema"])


def test_every_operation_is_as_described(call: Checked, provider: str) -> None:
    chats(call, provider)
    holds(call)
    prices(call)
    credit_groups(call)
    sponsored_allowances(call)
    settings(call)
    users(call)
    assert call.called == OPERATIONS


def chats(call: Checked, provider: str) -> None:
    path = "/v1/chat/completions"
    server = {"name": "openai", "kind": "openai", "base_url": provider, "api_key": "a-provider-key"}
    who = {"X-OpenWebUI-User-Id": "ann", "X-Tracking-Server": json.dumps(server)}
    body = {"model": "gpt-test", "messages": [{"role": "user", "content": "[[sim text=Yes input=1000 output=100]]"}]}
    answer = call("post", path, 200, body, headers=who)
    assert answer["usage"]["credits"] == 4.5
    assert answer["usage"]["credits_remaining"] == 995.5
    call("post", path, 403, {**body, "model": "unpriced"}, headers=who)
    call("post", path, 403, body, headers={**who, "X-OpenWebUI-User-Id": "nobody"})
    call("post", path, 400, {"model": "gpt-test"}, headers=who, valid=False)
    call("post", path, 402, body, headers={**who, "X-Tracking-Limit": "0"})
    call("post", path, 401, body, headers={**who, "Authorization": "Bearer wrong"})
    call("get", "/local/requests/{id}", 404, id=UNKNOWN)
    call("get", "/local/requests/{id}", 400, id="no-id")


def holds(call: Checked) -> None:
    size = {"input_text": "Good morning", "max_tokens": 500}
    held = call("post", "/local/holds", 201, {**ASKING, **size, "chat_id": "chat", "limit": 100})
    call("get", "/local/requests/{id}", 202, id=held["id"], wait=0)
    call("post", "/local/holds/{id}/progress", 204, {"text": "Good"}, id=held["id"])
    call("post", "/local/holds/{id}/progress", 204, {"usage": USAGE}, id=held["id"])
    ended = {"outcome": "client_gone", "text": " morning"}
    bill = call("post", "/local/holds/{id}/settle", 200, ended, id=held["id"])
    assert bill["estimated"] is False and bill["credits"] == 4.5
    request = call("get", "/local/requests/{id}", 200, id=held["id"], wait=5)
    assert (request["outcome"], request["cached_tokens"]) == ("client_gone", 10)
    call("post", "/local/holds/{id}/settle", 404, {"outcome": "complete"}, id=held["id"])
    call("post", "/local/holds/{id}/progress", 404, {"text": "Late"}, id=held["id"])
    other = call("post", "/local/holds", 201, {**ASKING, "request": {"messages": []}})
    call("post", "/local/holds/{id}/settle", 400, {"outcome": "never"}, id=other["id"], valid=False)
    call("delete", "/local/holds/{id}", 204, id=other["id"])
    call("delete", "/local/holds/{id}", 404, id=other["id"])
    call("post", "/local/holds", 403, {**ASKING, "user": "nobody"})
    call("post", "/local/holds", 403, {**ASKING, "model": "unpriced"})
    call("post", "/local/holds", 402, {**ASKING, **size, "limit": 0})
    assert call("post", "/local/usage", 201, {**ASKING, "usage": USAGE})["credits"] == 4.5
    unpriced = call("post", "/local/usage", 201, {**ASKING, "model": "none", "usage": USAGE})
    assert [remark["code"] for remark in unpriced["remarks"]] == ["model_not_priced"]
    wrong = {"prompt_tokens": 1, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 2}}
    call("post", "/local/usage", 400, {**ASKING, "usage": wrong})
    balance = call("get", "/local/balance", 200, user="ann")
    assert balance["base"] == {"limit": 1000, "spent": 13.5, "held": 0, "remaining": 986.5}
    call("get", "/local/balance", 404, user="nobody")


def prices(call: Checked) -> None:
    price = {"provider": "example", "id": "large", "name": "Large", "input_cost_credits": 1, "output_cost_credits": 2.5}
    tier = {"above_input_tokens": 100, "input_cost_credits": 2, "output_cost_credits": 3}
    full = {**price, "id": "full", "cached_input_cost_credits": 0.1, "tiers": [tier], "max_output_tokens": 100}
    assert call("put", "/local/prices", 200, {"how": "add", "prices": [price, full]}) == {"changed": 2}
    call("put", "/local/prices", 409, {"how": "add", "prices": [price]})
    change = {"provider": "example", "id": "large", "name": "Larger"}
    assert call("put", "/local/prices", 200, {"how": "update", "prices": [change]}) == {"changed": 1}
    call("put", "/local/prices", 404, {"how": "update", "prices": [{**change, "id": "none"}]})
    call("put", "/local/prices", 400, {"how": "upsert", "prices": [{**price, "colour": "red"}]})
    assert len(call("get", "/local/prices", 200, provider="Example")["prices"]) == 2
    assert call("get", "/local/prices", 200, model="large")["prices"][0]["name"] == "Larger"
    assert call("delete", "/local/prices", 200, model="large", provider="example") == {"deleted": 1}
    call("delete", "/local/prices", 404, model="large")
    assert "gpt-test" in [model["id"] for model in call("get", "/local/models", 200, provider="openai")["models"]]


def credit_groups(call: Checked) -> None:
    groups, members = "/local/credit-groups", "/local/credit-groups/members"
    staff = {"name": "staff", "credit_allowance": 2000, "description": "Who works here"}
    call("post", groups, 201, staff)
    call("post", groups, 409, staff)
    call("post", groups, 400, {**staff, "credit_allowance": -1}, valid=False)
    call("patch", groups, 200, {"name": "staff", "new_name": "Staff"})
    call("patch", groups, 404, {"name": "nobody", "credit_allowance": 1})
    call("patch", groups, 400, {"name": "staff"})
    call("post", members, 204, {"name": "staff", "user": "ann"})
    call("post", members, 404, {"name": "staff", "user": "nobody"})
    assert call("get", groups, 200, user="ann")["credit_groups"][0]["user_count"] == 1
    assert call("get", groups, 200, name="staff")["credit_groups"][0]["name"] == "Staff"
    call("get", groups, 404, name="nobody")
    [ann] = call("get", members, 200, name="staff")["users"]
    assert [group["name"] for group in ann["credit_groups"]] == ["Staff"]
    call("get", members, 404, name="nobody")
    call("delete", groups, 409, name="staff")
    call("delete", members, 204, name="staff", user="ann")
    call("delete", members, 404, name="staff", user="ann")
    call("delete", groups, 204, name="staff", force="true")
    call("delete", groups, 404, name="staff")


def sponsored_allowances(call: Checked) -> None:
    path = "/local/sponsored"
    course = {"name": "course", "sponsor_id": "AI department", "models": ["gpt-test"], "total_credit_limit": 1000}
    made = call("post", path, 201, course)
    call("post", path, 409, course)
    call("post", path, 404, {**course, "name": "other", "models": ["unpriced"]})
    call("post", path, 400, {**course, "name": "other", "total_credit_limit": -1}, valid=False)
    assert call("patch", path, 200, {"name": "course", "daily_credit_limit": 20})["daily_credit_limit"] == 20
    assert call("patch", path, 200, {"id": made["id"], "daily_credit_limit": None})["daily_credit_limit"] is None
    call("patch", path, 404, {"name": "nobody", "total_credit_limit": 1})
    call("patch", path, 400, {"total_credit_limit": 1})
    assert call("get", path, 200)["sponsored"] == [made]
    call("get", path, 404, name="nobody")
    call("get", path, 400, id="no-id")
    call("delete", path, 204, id=made["id"])
    call("delete", path, 404, name="course")


def settings(call: Checked) -> None:
    path = "/local/settings"
    call("put", path, 204, {"settings": [{"key": "timezone", "value": "Europe/Zurich"}]})
    call("put", path, 204, {"settings": [{"key": "timezone", "value": "UTC"}], "only_new": True})
    call("put", path, 400, {"settings": [{"key": "timezone", "value": "Mars/Olympus"}]})
    found = {setting["key"]: setting["value"] for setting in call("get", path, 200)["settings"]}
    assert found["timezone"] == "Europe/Zurich" and found["hold_wait"] is None


def users(call: Checked) -> None:
    assert [user["id"] for user in call("get", "/local/users", 200, email="ANN@example.org")["users"]] == ["ann"]
    assert call("get", "/local/users", 200, id="nobody")["users"] == []
