"""Open WebUI's users, as far as they concern us."""

from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column, relationship

from openwebui_token_tracking.db.base import Base

if TYPE_CHECKING:
    from openwebui_token_tracking.db.credit_group import CreditGroupUser


class User(Base):
    """A row of Open WebUI's table of users, which has more columns than these. For reading only."""

    __tablename__ = "user"

    id: Mapped[str] = mapped_column(sa.String(255), primary_key=True)
    name: Mapped[str | None] = mapped_column(sa.String(255))
    email: Mapped[str | None] = mapped_column(sa.String(255))

    credit_groups: Mapped[list["CreditGroupUser"]] = relationship(back_populates="user")
