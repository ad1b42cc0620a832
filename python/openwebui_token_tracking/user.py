"""Users, and the credit groups that they are in."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from openwebui_token_tracking._calls import call
from openwebui_token_tracking._original import answer_for


@dataclass(frozen=True)
class CreditGroup:
    """A credit group, as its members see it."""

    id: UUID
    name: str
    max_credit: int
    """Credits for each member and day."""
    description: str


@dataclass(frozen=True)
class CreditGroupUser:
    """That a user is in a credit group."""

    user_id: str
    credit_group: CreditGroup

    @property
    def credit_group_id(self) -> UUID:
        """The group's id."""
        return self.credit_group.id


@dataclass(frozen=True)
class User:
    """A user of Open WebUI."""

    id: str
    name: str
    email: str
    credit_groups: tuple[CreditGroupUser, ...] = ()


class _Group(Protocol):
    @property
    def id(self) -> Any: ...
    @property
    def name(self) -> Any: ...
    @property
    def max_credit(self) -> Any: ...
    @property
    def description(self) -> Any: ...


class _Membership(Protocol):
    @property
    def credit_group(self) -> _Group: ...


class _User(Protocol):
    @property
    def id(self) -> Any: ...
    @property
    def name(self) -> Any: ...
    @property
    def email(self) -> Any: ...
    @property
    def credit_groups(self) -> Iterable[Any]: ...


def find_user(
    database_url: str | None,
    user_id: str | None = None,
    name: str | None = None,
    email: str | None = None,
) -> User | None:
    """The user with that id, name and e-mail address: all that is given must fit exactly.

    :param database_url: the database; ``None`` for the one that the environment names
    :return: the user, the first by id if several fit; ``None`` if nobody does, or nothing was given

    Example::

        find_user(database_url, email="ann@example.org")
    """
    if user_id is None and name is None and email is None:
        return None
    found = call(database_url, "GET", "users", {"id": user_id, "name": name, "email": email})["users"]
    fitting = [
        user for user in found if (name is None or user["name"] == name) and (email is None or user["email"] == email)
    ]
    if not fitting:
        return None
    return read_user(min(fitting, key=lambda user: str(user["id"])))


def serialize_user(user: _User) -> dict[str, Any]:
    """A user as a dictionary: ``id``, ``name``, ``email`` and ``credit_groups``.

    :param user: what :func:`find_user` returned, or a row of :class:`openwebui_token_tracking.db.User`
    """
    groups = (membership.credit_group for membership in user.credit_groups)
    return {
        "id": user.id,
        "name": user.name,
        "email": user.email,
        "credit_groups": [
            {
                "id": str(group.id),
                "name": group.name,
                "max_credit": group.max_credit,
                "description": group.description,
            }
            for group in groups
        ],
    }


def read_user(entry: Mapping[str, Any]) -> User:
    """A user as the gateway describes one."""
    return User(
        id=entry["id"],
        name=entry["name"],
        email=entry["email"],
        credit_groups=tuple(CreditGroupUser(entry["id"], read_group(group)) for group in entry["credit_groups"]),
    )


def read_group(entry: Mapping[str, Any]) -> CreditGroup:
    """A credit group as the gateway describes one."""
    return CreditGroup(
        id=UUID(entry["id"]),
        name=entry["name"],
        max_credit=int(entry["credit_allowance"]),
        description=entry["description"],
    )


if not TYPE_CHECKING:
    __getattr__ = answer_for(__name__)
