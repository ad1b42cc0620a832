"""Makes a list of calls to the package's modules and prints what came of each, as JSON.

Run by two interpreters, one with the original and one with ours. Standard input: `{url: [[module, function, {parameter:
value}], …], …}`. The URL is added to the parameters of each call. Ids differ from run to run: they become `id`.
"""

import importlib
import importlib.util
import json
import re
import sys
from typing import Any

PACKAGE = "openwebui_token_tracking"
ID = re.compile(r"[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}")


def plain(value: Any) -> Any:
    """A value as JSON. Lists come in an order of their own: the databases promise none."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return sorted((plain(one) for one in value), key=json.dumps)
    if isinstance(value, str):
        return ID.sub("id", value)
    if value is None or isinstance(value, bool | int):
        return value
    if hasattr(value, "base_model_id"):
        return value.base_model_id
    if hasattr(value, "email"):
        serialize_user = importlib.import_module(f"{PACKAGE}.user").serialize_user
        return plain(serialize_user(value))
    raise TypeError(f"{value!r} has no plain form")


def given(value: Any) -> Any:
    """A parameter, from JSON."""
    if isinstance(value, dict) and "schema" in value:
        return importlib.import_module(f"{PACKAGE}.models").ModelPricingSchema(**value["schema"])
    if isinstance(value, list):
        return [given(one) for one in value]
    return value


def perform(url: str, module: str, function: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """One call: what it returned, or the name of what it raised."""
    called = getattr(importlib.import_module(f"{PACKAGE}.{module}"), function)
    try:
        returned = called(database_url=url, **{name: given(value) for name, value in parameters.items()})
    except Exception as error:
        return {"raised": type(error).__name__}
    return {"returned": plain(returned)}


def close(url: str) -> None:
    """Ends what ours started for that database."""
    if importlib.util.find_spec(f"{PACKAGE}.child"):
        importlib.import_module(f"{PACKAGE}.child").close(url)


if __name__ == "__main__":
    results = {}
    for address, calls in json.load(sys.stdin).items():
        results[address] = [perform(address, *call) for call in calls]
        close(address)
    json.dump(results, sys.stdout)
