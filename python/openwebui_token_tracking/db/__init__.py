"""SQLAlchemy classes over the tables that 0.1 of this package introduced, for reports and scripts of one's own.

Needs SQLAlchemy, which Open WebUI brings; nothing else in this package imports it. The tables stay with their names,
columns and value formats. Charges are decided elsewhere: what is written here is noticed within two seconds, but only the
functions of the other modules check what they write.
"""

try:
    import sqlalchemy as _sqlalchemy  # noqa: F401  (only to say what is missing)
except ImportError as error:
    raise ImportError("openwebui_token_tracking.db needs SQLAlchemy 2: pip install 'sqlalchemy>=2'") from error

from openwebui_token_tracking.db.credit_group import CreditGroup, CreditGroupUser
from openwebui_token_tracking.db.db import init_db, migrate_database
from openwebui_token_tracking.db.model_pricing import ModelPricing
from openwebui_token_tracking.db.settings import BaseSetting
from openwebui_token_tracking.db.sponsored import SponsoredAllowance, SponsoredAllowanceBaseModels
from openwebui_token_tracking.db.token_usage import TokenUsageLog
from openwebui_token_tracking.db.user import User

__all__ = [
    "BaseSetting",
    "CreditGroup",
    "CreditGroupUser",
    "ModelPricing",
    "SponsoredAllowance",
    "SponsoredAllowanceBaseModels",
    "TokenUsageLog",
    "User",
    "init_db",
    "migrate_database",
]
