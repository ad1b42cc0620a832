"""SQLAlchemy classes over the tables of this package, for reports and scripts of one's own.

Needs SQLAlchemy, which Open WebUI brings; nothing else in this package imports it. The tables of version 0.1 stay with
their names, columns and value formats, beside the ledger, which has what was charged since. Charges are decided elsewhere: what is written here is noticed within two seconds, but only the
functions of the other modules check what they write.
"""

try:
    import sqlalchemy as _sqlalchemy  # noqa: F401  (only to say what is missing)
except ImportError as error:
    raise ImportError("openwebui_token_tracking.db needs SQLAlchemy 2: pip install 'sqlalchemy>=2'") from error

from openwebui_token_tracking.db.credit_group import CreditGroup, CreditGroupUser
from openwebui_token_tracking.db.db import init_db, migrate_database
from openwebui_token_tracking.db.ledger import LedgerEntry
from openwebui_token_tracking.db.model_pricing import ModelPricing
from openwebui_token_tracking.db.settings import BaseSetting
from openwebui_token_tracking.db.sponsored import SponsoredAllowance, SponsoredAllowanceBaseModels
from openwebui_token_tracking.db.token_usage import TokenUsageLog
from openwebui_token_tracking.db.user import User

__all__ = [
    "BaseSetting",
    "CreditGroup",
    "CreditGroupUser",
    "LedgerEntry",
    "ModelPricing",
    "SponsoredAllowance",
    "SponsoredAllowanceBaseModels",
    "TokenUsageLog",
    "User",
    "init_db",
    "migrate_database",
]
