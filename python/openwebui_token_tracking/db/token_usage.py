"""The usage log of version 0.1, which goes on beside the ledger."""

import datetime
import uuid

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from openwebui_token_tracking.db.base import Base


class TokenUsageLog(Base):
    """One request in the usage log of version 0.1: its own, and those since, so that it counts them.

    A row that is added here becomes an entry of the ledger within seconds. What was charged, and all else that is known of a
    request, is in its :class:`~openwebui_token_tracking.db.LedgerEntry`.
    """

    __tablename__ = "token_tracking_usage_log"

    log_date: Mapped[datetime.datetime] = mapped_column(sa.DateTime(timezone=True), primary_key=True)
    """On SQLite local time without a zone."""
    user_id: Mapped[str] = mapped_column(sa.String(255), primary_key=True)
    provider: Mapped[str] = mapped_column(sa.String(255), primary_key=True)
    model_id: Mapped[str] = mapped_column(sa.String(255), primary_key=True)
    sponsored_allowance_id: Mapped[uuid.UUID | None] = mapped_column(
        sa.UUID(as_uuid=True), sa.ForeignKey("token_tracking_sponsored_allowance.id")
    )
    prompt_tokens: Mapped[int | None] = mapped_column(sa.Integer)
    response_tokens: Mapped[int | None] = mapped_column(sa.Integer)
