"""Settings to begin with."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from openwebui_token_tracking._calls import call
from openwebui_token_tracking._original import answer_for

_FIELDS = {"setting_key", "setting_value", "description"}
_INITIAL = [
    {
        "setting_key": "base_credit_allowance",
        "setting_value": "1000",
        "description": "Baseline credit allowance for all users, in credits per day.",
    }
]


def init_base_settings(database_url: str | None, settings: Iterable[Mapping[str, str]] | None = None) -> None:
    """Writes settings, over those that are there. All or none are written.

    :param database_url: the database; ``None`` for the one that the environment names
    :param settings: each with its ``setting_key``, its ``setting_value`` and, if that is to be written too, its
        ``description``; ``None`` for a base allowance of 1000 credits a day
    :raises TypeError: if a setting has other fields
    :raises ValueError: if a setting can't have that value

    Example::

        init_base_settings(
            "sqlite:////app/backend/data/webui.db",
            [{"setting_key": "timezone", "setting_value": "Europe/Zurich"}],
        )
    """
    entries = []
    for setting in _INITIAL if settings is None else settings:
        strange = setting.keys() - _FIELDS
        if strange:
            raise TypeError(f"a setting has no field {', '.join(sorted(strange))}")
        missing = {"setting_key", "setting_value"} - setting.keys()
        if missing:
            raise ValueError(f"a setting needs its {' and '.join(sorted(missing))}")
        entry = {"key": setting["setting_key"], "value": str(setting["setting_value"])}
        if "description" in setting:
            entry["description"] = setting["description"]
        entries.append(entry)
    body = {"settings": entries, "only_new": False}
    call(database_url, "PUT", "settings", body=body, refusals={400: ValueError, 404: ValueError})


if not TYPE_CHECKING:
    __getattr__ = answer_for(__name__)
