"""Prices in whole credits, one for each model."""

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from openwebui_token_tracking.db.base import Base


class ModelPricing(Base):
    """What a model costs.

    A mirror in whole credits: fractions are rounded up, and of models of one id at several providers only the first is
    here. :mod:`openwebui_token_tracking.model_pricing` has all prices as they are charged.
    """

    __tablename__ = "token_tracking_model_pricing"

    provider: Mapped[str] = mapped_column(sa.String(255), primary_key=True)
    id: Mapped[str] = mapped_column(sa.String(255), primary_key=True)
    name: Mapped[str | None] = mapped_column(sa.String(255))
    """The model's name for people."""
    input_cost_credits: Mapped[int | None] = mapped_column(sa.Integer)
    """Credits for ``per_input_tokens`` tokens."""
    per_input_tokens: Mapped[int | None] = mapped_column(sa.Integer)
    output_cost_credits: Mapped[int | None] = mapped_column(sa.Integer)
    """Credits for ``per_output_tokens`` tokens."""
    per_output_tokens: Mapped[int | None] = mapped_column(sa.Integer)
