"""`install` puts the tracked pipes into a real Open WebUI. Its first run is that of the fixture `tracked`."""

import pytest

from open_webui import OpenWebUI
from tracked import FREE, MODEL, VENDORS, Tracked

pytestmark = pytest.mark.smoke


def functions(server: OpenWebUI) -> dict[str, dict]:
    return {one["id"]: one for one in server.admin.get("/api/v1/functions/")}


def test_functions_are_active_with_valves_from_the_environment(open_webui: OpenWebUI, tracked: Tracked) -> None:
    there = functions(open_webui)
    for vendor in VENDORS:
        assert there[vendor.provider]["is_active"] and there[vendor.provider]["type"] == "pipe"
        valves = open_webui.admin.get(f"/api/v1/functions/id/{vendor.provider}/valves")
        wanted = set(vendor.variables(tracked.upstream).values())
        assert wanted <= {str(value) for value in valves.values()}
    button = there["credit_balance"]
    assert button["is_active"] and button["is_global"] and button["type"] == "action"


def test_a_plain_user_sees_the_models(open_webui: OpenWebUI, tracked: Tracked) -> None:
    seen = open_webui.add_user().models()
    assert {MODEL, FREE, *(vendor.named for vendor in VENDORS)} <= set(seen)


def test_keys_are_masked_in_the_settings(open_webui: OpenWebUI, tracked: Tracked) -> None:
    for vendor in VENDORS:
        spec = open_webui.admin.get(f"/api/v1/functions/id/{vendor.provider}/valves/spec")["properties"]
        keys = [valve for name, valve in spec.items() if name.endswith("KEY")]
        assert keys and all(valve["input"]["type"] == "password" for valve in keys)


def test_repeated_it_changes_nothing(open_webui: OpenWebUI, tracked: Tracked) -> None:
    before = functions(open_webui)
    steps = tracked.install()
    assert {step["step"] for step in steps} == {"keep"}
    assert functions(open_webui) == before


def test_a_dry_run_changes_nothing(open_webui: OpenWebUI, tracked: Tracked) -> None:
    """Of what it would do it says the names, and no key."""
    before = open_webui.admin.get("/api/v1/functions/id/openai/valves")
    changed = {"OPENAI_API_KEY": "another-key", "OPENAI_API_BASE_URL": f"{tracked.upstream.url}/v1"}
    said = tracked.run(*tracked.address(), "--pipe", "openai", "--dry-run", **changed)
    assert "set valves" in said and "dry run" in said and "another-key" not in said
    assert open_webui.admin.get("/api/v1/functions/id/openai/valves") == before


def test_a_function_that_is_not_ours_is_refused(open_webui: OpenWebUI, tracked: Tracked) -> None:
    """It stays as it is."""
    content = open_webui.admin.get("/api/v1/functions/id/ollama")["content"]
    foreign = "class Pipe:\n    def pipe(self, body):\n        return 'mine'\n"
    form = {"id": "ollama", "name": "ollama", "meta": {"description": "", "manifest": {}}}
    open_webui.admin.post("/api/v1/functions/id/ollama/update", {**form, "content": foreign})
    try:
        done = tracked.tried(*tracked.address(), "--pipe", "ollama")
        assert done.returncode == 1 and "`ollama`" in done.stderr and "does not use this package" in done.stderr
        assert open_webui.admin.get("/api/v1/functions/id/ollama")["content"] == foreign
    finally:
        open_webui.admin.post("/api/v1/functions/id/ollama/update", {**form, "content": content})


def test_a_token_of_a_plain_user_is_refused(open_webui: OpenWebUI, tracked: Tracked) -> None:
    token = open_webui.add_user().token
    done = tracked.tried("install", "--url", open_webui.url, "--token", token, "--pipe", "openai")
    assert done.returncode == 1 and "administrator" in done.stderr
