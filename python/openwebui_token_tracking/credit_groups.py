"""Credit groups: each adds its credits to the daily allowance of its members. Names are found in any case.

In every function ``database_url`` is the database's URL as in Open WebUI's ``DATABASE_URL``; ``None`` is the database that
the environment names.
"""

from typing import TYPE_CHECKING, Any
from uuid import UUID

from openwebui_token_tracking._calls import Refusals, call
from openwebui_token_tracking._original import answer_for
from openwebui_token_tracking.user import find_user, read_user, serialize_user

_PATH = "credit-groups"
_MEMBERS = "credit-groups/members"
_REFUSALS: Refusals = {400: ValueError, 404: KeyError, 409: KeyError}


def create_credit_group(
    credit_group_name: str,
    credit_allowance: int,
    description: str,
    database_url: str | None = None,
) -> None:
    """Makes a group.

    :param credit_allowance: credits for each member and day
    :raises KeyError: if there is a group of that name
    :raises ValueError: if the allowance is negative or too large
    """
    body = {
        "name": credit_group_name,
        "credit_allowance": credit_allowance,
        "description": description,
    }
    call(database_url, "POST", _PATH, body=body, refusals=_REFUSALS)


def get_credit_group(credit_group_name: str, database_url: str | None = None) -> dict[str, Any]:
    """A group: its ``id``, ``name``, ``max_credit`` and ``description``.

    :raises KeyError: if there is no such group
    """
    [found] = call(database_url, "GET", _PATH, {"name": credit_group_name}, refusals=_REFUSALS)["credit_groups"]
    return _described(found)


def list_credit_groups(database_url: str | None = None) -> list[dict[str, Any]]:
    """All groups, each with its ``id``, ``name``, ``description``, ``max_credit`` and ``user_count``."""
    found = call(database_url, "GET", _PATH)["credit_groups"]
    return [{**_described(group), "user_count": group["user_count"]} for group in found]


def update_credit_group(
    credit_group_name: str,
    new_credit_allowance: int | None = None,
    new_description: str | None = None,
    new_name: str | None = None,
    database_url: str | None = None,
) -> None:
    """Changes a group; what is not given stays. It counts for requests from now on.

    :raises KeyError: if there is no such group, or another one has the new name
    :raises ValueError: if nothing is to be changed, or the allowance is negative or too large
    """
    changes = {
        "credit_allowance": new_credit_allowance,
        "description": new_description,
        "new_name": new_name,
    }
    body = {name: value for name, value in changes.items() if value is not None}
    if not body:
        raise ValueError("nothing is to be changed: give a new allowance, description or name")
    body["name"] = credit_group_name
    call(database_url, "PATCH", _PATH, body=body, refusals=_REFUSALS)


def upsert_credit_group(
    credit_group_name: str,
    credit_allowance: int,
    description: str,
    database_url: str | None = None,
) -> bool:
    """Makes a group, or changes the one of that name.

    :return: whether it was made
    :raises ValueError: if the allowance is negative or too large
    """
    try:
        update_credit_group(credit_group_name, credit_allowance, description, database_url=database_url)
    except KeyError:
        create_credit_group(credit_group_name, credit_allowance, description, database_url)
        return True
    return False


def delete_credit_group(credit_group_name: str, database_url: str | None = None, force: bool = False) -> None:
    """Deletes a group. What its members were charged stays.

    :param force: also if it has members
    :raises KeyError: if there is no such group
    :raises ValueError: if it has members and ``force`` is not set
    """
    query = {"name": credit_group_name, "force": "true" if force else "false"}
    call(database_url, "DELETE", _PATH, query, refusals={404: KeyError, 409: ValueError})


def add_user(user_id: str, credit_group_name: str, database_url: str | None = None) -> None:
    """Adds a user to a group; one who is in it stays in it.

    :raises KeyError: if there is no such group or no such user
    """
    body = {"name": credit_group_name, "user": user_id}
    call(database_url, "POST", _MEMBERS, body=body, refusals=_REFUSALS)


def remove_user(user_id: str, credit_group_name: str, database_url: str | None = None) -> None:
    """Removes a user from a group.

    :raises KeyError: if there is no such group or no such user
    :raises ValueError: if the user is not in the group
    """
    query = {"name": credit_group_name, "user": user_id}
    try:
        call(database_url, "DELETE", _MEMBERS, query, refusals={404: LookupError})
    except LookupError as error:
        # Either of the two is missing, or only the membership.
        get_credit_group(credit_group_name, database_url)
        if find_user(database_url, user_id) is None:
            raise KeyError(f"there is no user {user_id}") from error
        raise ValueError(f"{user_id} is not in the credit group {credit_group_name}") from error


def list_users(credit_group_name: str, database_url: str | None = None) -> list[dict[str, Any]]:
    """The members of a group, as :func:`openwebui_token_tracking.user.serialize_user` describes users.

    :raises KeyError: if there is no such group
    """
    found = call(database_url, "GET", _MEMBERS, {"name": credit_group_name}, refusals=_REFUSALS)["users"]
    return [serialize_user(read_user(user)) for user in found]


def _described(entry: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": str(UUID(entry["id"])),
        "name": entry["name"],
        "max_credit": int(entry["credit_allowance"]),
        "description": entry["description"],
    }


if not TYPE_CHECKING:
    __getattr__ = answer_for(__name__)
