"""Credit groups and who is in them."""

import uuid
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column, relationship

from openwebui_token_tracking.db.base import Base, new_id

if TYPE_CHECKING:
    from openwebui_token_tracking.db.user import User


class CreditGroupUser(Base):
    """A user in a credit group."""

    __tablename__ = "token_tracking_credit_group_user"

    credit_group_id: Mapped[uuid.UUID] = mapped_column(
        sa.UUID(as_uuid=True), sa.ForeignKey("token_tracking_credit_group.id"), primary_key=True
    )
    user_id: Mapped[str] = mapped_column(sa.String(255), sa.ForeignKey("user.id"), primary_key=True)

    credit_group: Mapped["CreditGroup"] = relationship(back_populates="users")
    user: Mapped["User"] = relationship(back_populates="credit_groups")


class CreditGroup(Base):
    """A credit group: adds its credits to the daily allowance of each of its members."""

    __tablename__ = "token_tracking_credit_group"

    id: Mapped[uuid.UUID] = mapped_column(sa.UUID(as_uuid=True), primary_key=True, default=new_id)
    name: Mapped[str | None] = mapped_column(sa.String(255))
    """Unique, whatever the case of its letters."""
    max_credit: Mapped[int | None] = mapped_column(sa.Integer)
    """Credits for each member and day."""
    description: Mapped[str | None] = mapped_column(sa.String(255))

    users: Mapped[list[CreditGroupUser]] = relationship(back_populates="credit_group")


sa.Index("idx_token_tracking_credit_group_name_lower", sa.func.lower(CreditGroup.name), unique=True)
