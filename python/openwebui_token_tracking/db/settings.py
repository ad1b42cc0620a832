"""Settings."""

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from openwebui_token_tracking.db.base import Base


class BaseSetting(Base):
    """A setting, as text."""

    __tablename__ = "token_tracking_base_settings"

    setting_key: Mapped[str] = mapped_column(sa.String(255), primary_key=True)
    setting_value: Mapped[str | None] = mapped_column(sa.String(255))
    description: Mapped[str | None] = mapped_column(sa.String(255))
