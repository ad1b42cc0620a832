"""The ledger: what every request was charged."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from openwebui_token_tracking.db.base import Own

_MICROCREDITS = 1_000_000
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


class LedgerEntry(Own):
    """One request, as it was charged; written once, never changed. For reading only: accounts rest on it.

    Example, what each user has spent on a day::

        sa.select(LedgerEntry.user_id, sa.func.sum(LedgerEntry.charge)).where(LedgerEntry.day == "2026-01-05").group_by(
            LedgerEntry.user_id
        )
    """

    __tablename__ = "token_tracking_ledger"

    id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    """The request's id, 32 hexadecimal digits, in the order of time."""
    kind: Mapped[str] = mapped_column(sa.Text)
    """``request``, or ``correction`` of one."""
    corrects: Mapped[str | None] = mapped_column(sa.Text)
    """The request that a correction is about."""
    user_id: Mapped[str] = mapped_column(sa.Text)
    sponsored_id: Mapped[str | None] = mapped_column(sa.Text)
    """The sponsored allowance that paid, 32 hexadecimal digits."""
    day: Mapped[str] = mapped_column(sa.Text)
    """The day that was charged, as ``YYYY-MM-DD``, in the time zone of the setting ``timezone``."""
    provider: Mapped[str] = mapped_column(sa.Text)
    model: Mapped[str] = mapped_column(sa.Text)
    answered_model: Mapped[str | None] = mapped_column(sa.Text)
    """The model that the answer named, if another."""
    input_tokens: Mapped[int] = mapped_column(sa.BigInteger)
    cached_input_tokens: Mapped[int] = mapped_column(sa.BigInteger)
    cache_write_tokens: Mapped[int] = mapped_column(sa.BigInteger)
    output_tokens: Mapped[int] = mapped_column(sa.BigInteger)
    reasoning_tokens: Mapped[int] = mapped_column(sa.BigInteger)
    charge: Mapped[int] = mapped_column(sa.BigInteger)
    """Millionths of a credit."""
    estimated: Mapped[str | None] = mapped_column(sa.Text)
    """``counted`` or ``length`` (guessed from it), if the provider reported no usage."""
    adjusted: Mapped[int] = mapped_column(sa.BigInteger)
    """1 where the provider's report contradicted itself and was used where it can be right, else 0."""
    outcome: Mapped[str] = mapped_column(sa.Text)
    """``complete``, ``client_gone``, ``provider_failed``, ``timed_out``, ``cut``, ``shutdown``, ``recovered`` or
    ``not_allowed`` (it happened elsewhere, and a rule would have refused it);
    of a correction also ``released``."""
    way_in: Mapped[str] = mapped_column(sa.Text)
    """``gateway`` or ``pipe``."""
    task: Mapped[str | None] = mapped_column(sa.Text)
    chat_id: Mapped[str | None] = mapped_column(sa.Text)
    message_id: Mapped[str | None] = mapped_column(sa.Text)
    workspace_model: Mapped[str | None] = mapped_column(sa.Text)
    started_at: Mapped[int] = mapped_column(sa.BigInteger)
    """Microseconds since 1970 UTC."""
    ended_at: Mapped[int] = mapped_column(sa.BigInteger)
    """Microseconds since 1970 UTC."""

    @property
    def credits(self) -> Decimal:
        """The charge in credits, exact."""
        return Decimal(self.charge) / _MICROCREDITS

    @property
    def started(self) -> datetime:
        """When it began, in UTC."""
        return _BEGINNING + timedelta(microseconds=self.started_at)
