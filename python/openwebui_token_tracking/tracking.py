"""What users may spend and have spent, and rules of one's own.

A :class:`TokenTracker` answers questions and books usage in scripts. A subclass of it changes the rules of a pipe::

    class WeekendsFree(TokenTracker):
        def is_paid(self, model_id):
            return datetime.now().weekday() < 5 and super().is_paid(model_id)

    class Pipe(OpenAITrackedPipe):
        tracker_class = WeekendsFree

A pipe calls only what the subclass overrides, in a thread of its own, so an override may block. Whatever it says, the
credits are then set aside by one atomic step in the database: two requests at a time can't spend the same credits.

=====================  ===========================================================================================
override               what the pipe does with it
=====================  ===========================================================================================
``admit``              calls it first; an exception refuses the request, its text is shown to the user
``is_paid``            ``False``: the user's own limit does not count for this request. It is charged all the same
``remaining_credits``  refuses if less than one credit remains
``max_credits``        its value is the user's own daily limit for this request
``log_token_usage``    calls it for each request after it was charged; ``super().log_token_usage`` charges nothing then
``get_models``         its value is the list of models that the pipe offers
=====================  ===========================================================================================
"""

import contextvars
import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from openwebui_token_tracking._calls import call, whole
from openwebui_token_tracking._original import answer_for
from openwebui_token_tracking.errors import (
    DailyTokenLimitExceededError,
    LocalError,
    TokenLimitExceededError,
    TotalTokenLimitExceededError,
    plain,
)

if TYPE_CHECKING:
    import sqlalchemy

    from openwebui_token_tracking.models import ModelPricingSchema

__all__ = [
    "DailyTokenLimitExceededError",
    "ModelRequest",
    "TokenLimitExceededError",
    "TokenTracker",
    "TotalTokenLimitExceededError",
]

logger = logging.getLogger(__name__)

# True while a pipe reports a request that the gateway has charged already.
CHARGED: contextvars.ContextVar[bool] = contextvars.ContextVar("charged", default=False)
# The balance that `remaining_credits` has read, while it asks its parts.
_BALANCE: contextvars.ContextVar[dict[str, Any] | None] = contextvars.ContextVar("balance", default=None)


class Underway(Protocol):
    """A request that a pipe of one's own sends at this moment, and that is charged at its end."""

    def counted_by(self, tokens: Any) -> None:
        """Says which object counts its tokens. It is read at the end."""

    def reports(
        self, db_url: str | None, provider: str, model_id: str, prompt_tokens: int, response_tokens: int
    ) -> bool:
        """Says what it used, which is added to what was said before. ``False`` if that is of another model or database."""

    def relay(self, headers: dict[str, Any], payload: dict[str, Any]) -> Any:
        """Lets the gateway send it: a generator of ``data:`` lines, or an answer."""


# Set in the thread of such a request.
UNDERWAY: contextvars.ContextVar[Underway | None] = contextvars.ContextVar("underway", default=None)


@dataclass(frozen=True)
class ModelRequest:
    """A request as :meth:`TokenTracker.admit` sees it, before anything is set aside or sent."""

    user: Mapping[str, Any]
    """The user as Open WebUI describes them: ``id``, ``name``, ``email``, ``role`` and more."""
    provider: str
    """The provider's name in the price table."""
    model_id: str
    """The provider's id of the model."""
    body: Mapping[str, Any]
    """The request in OpenAI's form, with its ``messages``."""
    sponsored_allowance_name: str | None = None
    """The sponsored allowance that the workspace model names."""
    task: str | None = None
    """Open WebUI's task, such as ``title_generation``; ``None`` for a chat."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """What else Open WebUI says: ``chat_id``, ``message_id`` and more."""


class TokenTracker:
    """Tracks the usage of tokens and the credits of users.

    Its methods block; in asynchronous code call them by ``asyncio.to_thread``. Users whom Open WebUI does not know have the base
    allowance. Beside what each method names, all raise :class:`~openwebui_token_tracking.errors.AwayError`, a
    ``ConnectionError``, while the database or the gateway can't be reached; ``ValueError`` for what can't be an id or a name;
    ``PermissionError`` if the gateway at ``OWUI_TRACKING_URL`` does not take the key.

    :param db_url: the database, in SQLAlchemy's format; ``None`` for Open WebUI's own, or the one that ``DATABASE_URL`` names
    """

    def __init__(self, db_url: str | None = None) -> None:
        self.db_url = db_url

    def __init_subclass__(cls, **named: Any) -> None:
        super().__init_subclass__(**named)
        if "_calc_credits_from_tokens" in vars(cls):
            raise TypeError(
                f"{cls.__name__}._calc_credits_from_tokens is not called any more: what a request costs follows from the "
                "price of its model. Change the price (`owui-token-tracking pricing update`), or override remaining_credits."
            )

    @property
    def db_engine(self) -> "sqlalchemy.Engine":
        """An SQLAlchemy engine on the database, for queries of one's own.

        :raises ValueError: if no database is named
        """
        from openwebui_token_tracking.child import named_database
        from openwebui_token_tracking.db import init_db

        url = self.db_url or named_database()
        if url is None:
            raise ValueError("no database is named: pass db_url, or set DATABASE_URL")
        return init_db(url)

    def get_models(self, provider: str | None = None, id: str | None = None) -> list["ModelPricingSchema"]:
        """The models that have a price.

        :param provider: only this provider's, in any case
        :param id: only the one with this id
        """
        from openwebui_token_tracking.models import ModelPricingSchema

        found = self._ask("GET", "prices", {"provider": provider, "model": id})["prices"]
        return [ModelPricingSchema.model_validate(price) for price in found]

    def is_paid(self, model_id: str) -> bool:
        """Whether a model costs credits.

        :raises RuntimeError: if no model has that id
        """
        found = self._ask("GET", "models")
        own = {model["id"]: model["model"] for model in found.get("sponsored", [])}
        free = [model["free"] for model in found["models"] if model["id"] == own.get(model_id, model_id)]
        if not free:
            raise RuntimeError(f"there is no price for a model {model_id}")
        return not all(free)

    def max_credits(
        self,
        user: Mapping[str, Any],
        sponsored_allowance_name: str | None = None,
        sponsored_allowance_id: UUID | str | None = None,
    ) -> int | Decimal | None:
        """The daily limit in credits: the user's own, or of each user of a sponsored allowance.

        :param user: needs its ``id``
        :return: ``None`` if the sponsored allowance has no daily limit, or does not exist
        :raises RuntimeError: if both a name and an id are given
        """
        if sponsored_allowance_name is not None and sponsored_allowance_id is not None:
            raise RuntimeError("name the sponsored allowance, or give its id, not both")
        if sponsored_allowance_name is None and sponsored_allowance_id is None:
            return whole(self._balance(user)["base"]["limit"])
        found = self._ask("GET", "sponsored")["sponsored"]
        wanted = UUID(str(sponsored_allowance_id)) if sponsored_allowance_id is not None else None
        for allowance in found:
            named_so = sponsored_allowance_name is not None and is_allowance(allowance["name"], sponsored_allowance_name)
            if named_so or UUID(allowance["id"]) == wanted:
                return whole(allowance["daily_credit_limit"])
        return None

    def remaining_credits(
        self, user: Mapping[str, Any], sponsored_allowance_name: str | None = None
    ) -> tuple[int, int | None]:
        """What can still be spent today, in whole credits, rounded down; credits set aside for running requests are gone.

        :param user: needs its ``id``
        :return: what the user has left today, a weekly and a monthly limit included (with a sponsored allowance: of it), and
            what the sponsored allowance has left in all. Without a daily limit, the first is the second too
        :raises KeyError: if there is no such sponsored allowance
        """
        balance = self._balance(user)
        known = _BALANCE.set(balance)
        try:
            if sponsored_allowance_name is None:
                return self._remaining_user_credits(user, None), None
            for allowance in balance["sponsored"]:
                if is_allowance(allowance["name"], sponsored_allowance_name):
                    id = UUID(allowance["id"])
                    return self._remaining_user_credits(user, id), self._remaining_sponsored_credits(id)
        finally:
            _BALANCE.reset(known)
        raise KeyError(f"there is no sponsored allowance {sponsored_allowance_name}")

    def _remaining_user_credits(self, user: Mapping[str, Any], sponsored_allowance_id: UUID | str | None) -> int:
        """The first of :meth:`remaining_credits`; an override counts there."""
        balance = _BALANCE.get() or self._balance(user)
        if sponsored_allowance_id is None:
            return _floor(balance["tightest"])
        allowance = _of_id(balance["sponsored"], sponsored_allowance_id)
        return _floor(allowance["daily"] or allowance["total"])

    def _remaining_sponsored_credits(self, sponsored_allowance_id: UUID | str) -> int:
        """The second of :meth:`remaining_credits`; an override counts there.

        :raises RuntimeError: if it is called from elsewhere
        """
        balance = _BALANCE.get()
        if balance is None:
            raise RuntimeError("ask remaining_credits(user, sponsored_allowance_name) in place of this method")
        return _floor(_of_id(balance["sponsored"], sponsored_allowance_id)["total"])

    def log_token_usage(
        self,
        provider: str,
        model_id: str,
        user: Mapping[str, Any],
        prompt_tokens: float | Decimal | None,
        response_tokens: float | Decimal | None,
        sponsored_allowance_name: str | None = None,
    ) -> None:
        """Charges tokens that were used elsewhere, even over a limit or against a rule: what has happened is never lost.

        A sponsored allowance pays although it does not cover the model, is over, or is for others; a model without a price
        costs nothing. Such an entry of the ledger has the outcome ``not_allowed``, and the rule is logged. Called by an
        override while a pipe reports a request, it does nothing: that one is charged already.

        :param user: needs its ``id``; may be unknown to Open WebUI
        :param prompt_tokens: ``None`` for none; a fraction is rounded to the nearest whole number
        :param response_tokens: the same
        :raises KeyError: if there is no such sponsored allowance; the tokens are charged to the user then
        :raises ValueError: if tokens are less than nothing, or no number; nothing is recorded then
        """
        if CHARGED.get():
            return
        underway = UNDERWAY.get()
        if underway is not None and underway.reports(
            self.db_url, provider, model_id, _tokens(prompt_tokens), _tokens(response_tokens)
        ):
            return
        usage = {"prompt_tokens": _tokens(prompt_tokens), "completion_tokens": _tokens(response_tokens)}
        body = {"user": str(user["id"]), "provider": provider, "model": model_id, "usage": usage, **named(user)}
        if sponsored_allowance_name is not None:
            body["sponsored"] = sponsored_allowance_name
        try:
            remarks = call(self.db_url, "POST", "usage", body=body).get("remarks", [])
        except LocalError as error:
            # An older gateway refuses what is not sponsored, and records nothing.
            raise (KeyError(str(error)) if error.code == "not_sponsored" else plain(error)) from error
        for remark in remarks:
            logger.warning("usage of %s by %s was recorded against a rule: %s", model_id, user["id"], remark["message"])
        for remark in remarks:
            if remark["code"] == "sponsored_not_found":
                raise KeyError(f"{remark['message']}; the tokens are charged to the user")

    def admit(self, request: ModelRequest) -> None:
        """Whether a request may be sent, beside its limits. Lets all pass; for subclasses.

        :raises Exception: refuses the request; the text is shown to the user
        """

    def _calc_credits_from_tokens(
        self, records: Iterable[tuple[str, int, int]], models: Iterable["ModelPricingSchema"]
    ) -> Decimal:
        """What tokens cost at prices of input and output alone; charges follow the whole price, and are made elsewhere.

        :param records: the id of a model, and its tokens in and out
        """
        prices = {model.id: model for model in models}
        total = Decimal(0)
        for model_id, prompt_tokens, response_tokens in records:
            price = prices[model_id]
            total += price.input_cost_credits * Decimal(prompt_tokens) / price.per_input_tokens
            total += price.output_cost_credits * Decimal(response_tokens) / price.per_output_tokens
        return total

    def _balance(self, user: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = self._ask("GET", "balance", {"user": str(user["id"]), "anybody": "true"})
        return found

    def _ask(self, method: str, path: str, query: Mapping[str, str | None] | None = None) -> Any:
        try:
            return call(self.db_url, method, path, query)
        except LocalError as error:
            raise plain(error) from error


def _tokens(said: object) -> int:
    """A count of tokens as a whole number.

    :raises ValueError: if it is none
    """
    if said is None:
        return 0
    try:
        count = round(Decimal(str(said)))
    except (ArithmeticError, ValueError, OverflowError):
        raise ValueError(f"{said!r} is no number of tokens") from None
    if count < 0:
        raise ValueError(f"{said!r} tokens are less than nothing")
    return count


def _floor(counter: Mapping[str, Any]) -> int:
    remaining: int | Decimal = counter["remaining"]
    return math.floor(remaining)


def _of_id(allowances: list[dict[str, Any]], id: UUID | str) -> dict[str, Any]:
    """The allowance with that id.

    :raises KeyError: if there is none
    """
    for allowance in allowances:
        if UUID(allowance["id"]) == UUID(str(id)):
            return allowance
    raise KeyError(f"there is no sponsored allowance with the id {id}")


def is_allowance(name: str, named: str) -> bool:
    """Whether an allowance of that name is the one that is named; as ids of models have it, too: without gaps, in any case."""

    def in_ids(text: str) -> str:
        return "-".join(text.replace("/", " ").split()).casefold()

    return in_ids(name) == in_ids(named)


def named(user: Mapping[str, Any]) -> dict[str, Any]:
    """A user's name and e-mail address, as the gateway's bodies have them."""
    return {f"user_{part}": str(user[part]) for part in ("name", "email") if user.get(part)}


if not TYPE_CHECKING:
    __getattr__ = answer_for(__name__)
