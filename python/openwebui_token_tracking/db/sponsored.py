"""Sponsored allowances and the models that they cover."""

import datetime
import uuid

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column, relationship

from openwebui_token_tracking.db.base import Base, new_id
from openwebui_token_tracking.db.model_pricing import ModelPricing


class SponsoredAllowanceBaseModels(Base):
    """A model that a sponsored allowance covers."""

    __tablename__ = "token_tracking_sponsored_allowance_base_models"

    sponsored_allowance_id: Mapped[uuid.UUID] = mapped_column(
        sa.UUID(as_uuid=True), sa.ForeignKey("token_tracking_sponsored_allowance.id"), primary_key=True
    )
    base_model_id: Mapped[str] = mapped_column(
        sa.String(255), sa.ForeignKey("token_tracking_model_pricing.id"), primary_key=True
    )

    sponsored_allowance: Mapped["SponsoredAllowance"] = relationship(back_populates="base_models")
    base_model: Mapped[ModelPricing] = relationship()


class SponsoredAllowance(Base):
    """Credits that a sponsor grants for some models."""

    __tablename__ = "token_tracking_sponsored_allowance"

    id: Mapped[uuid.UUID] = mapped_column(sa.UUID(as_uuid=True), primary_key=True, default=new_id)
    creation_date: Mapped[datetime.datetime] = mapped_column(
        sa.DateTime(timezone=True), server_default=sa.text("CURRENT_TIMESTAMP")
    )
    name: Mapped[str | None] = mapped_column(sa.String(255))
    """What names of workspace models begin with, before ``---``."""
    sponsor_id: Mapped[str | None] = mapped_column(sa.String(255))
    total_credit_limit: Mapped[int] = mapped_column(sa.Integer)
    """Credits over all users, for ever."""
    daily_credit_limit: Mapped[int | None] = mapped_column(sa.Integer)
    """Credits for each user and day; ``None`` for no limit."""

    base_models: Mapped[list[SponsoredAllowanceBaseModels]] = relationship(back_populates="sponsored_allowance")
