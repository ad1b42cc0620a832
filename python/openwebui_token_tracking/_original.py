"""Names that modules of version 0.1 had, and that are elsewhere now, or nowhere.

The rule it protects: no such name is missing without a word. What is this package's own is found where it was; for anything else
an ``ImportError`` says what to write.
"""

import importlib
from collections.abc import Callable

_PACKAGE = __name__.partition(".")[0]

# This package's own, by the module that has it now.
_OWN = {
    "BaseSetting": "db",
    "BaseTrackedPipe": "pipes.base",
    "CreditGroup": "db",
    "CreditGroupUser": "db",
    "ModelPricing": "db",
    "ModelPricingSchema": "models",
    "RequestError": "errors",
    "SponsoredAllowance": "db",
    "SponsoredAllowanceBaseModels": "db",
    "TokenCount": "pipes.tokens",
    "TokenTracker": "tracking",
    "TokenUsageLog": "db",
    "User": "db",
    "_time_to_midnight": "pipes.base_tracked_pipe",
    "get_sponsored_allowance": "sponsored",
    "init_base_settings": "settings",
    "init_db": "db",
    "upsert_model_pricing": "model_pricing",
}
# Modules of this package, under the names that commands of 0.1 gave them.
_MODULES = {"models": f"{_PACKAGE}.models", "openwebui_token_tracking": _PACKAGE, "sp": f"{_PACKAGE}.sponsored"}
# Of other packages, which the modules of 0.1 only used: where each comes from.
_OTHERS = {
    "ABC": "abc",
    "Any": "typing",
    "BaseModel": "pydantic",
    "Config": "alembic.config",
    "Dict": "typing",
    "Field": "pydantic",
    "GenerationConfig": "google.generativeai.types",
    "Generator": "collections.abc",
    "Iterable": "collections.abc",
    "Iterator": "collections.abc",
    "List": "typing",
    "Optional": "typing",
    "Path": "pathlib",
    "Session": "sqlalchemy.orm",
    "Tuple": "typing",
    "UTC": "datetime",
    "UUID": "uuid",
    "Union": "typing",
    "CliRunner": "click.testing",
    "abstractmethod": "abc",
    "click": "click",
    "command": "alembic",
    "create_engine": "sqlalchemy",
    "date": "datetime",
    "datetime": "datetime",
    "db": "sqlalchemy",
    "declarative_base": "sqlalchemy.orm",
    "genai": "google.generativeai",
    "json": "json",
    "logging": "logging",
    "os": "os",
    "pop_system_message": "open_webui.utils.misc",
    "re": "re",
    "relationship": "sqlalchemy.orm",
    "requests": "requests",
    "sa": "sqlalchemy",
    "time": "time",
    "uuid": "uuid",
}
_GONE = {
    "DEFAULT_MODEL_PRICING": "the prices to begin with are in the database after `owui-token-tracking init`: "
    "openwebui_token_tracking.model_pricing.list_model_pricing(database_url) has them",
}


def answer_for(module: str) -> Callable[[str], object]:
    """What a module says about names that it has not: its ``__getattr__``, which type checkers must not see."""

    def find(name: str) -> object:
        if name in _OWN:
            return getattr(importlib.import_module(f"{_PACKAGE}.{_OWN[name]}"), name)
        if name in _MODULES:
            return importlib.import_module(_MODULES[name])
        if name in _GONE:
            raise ImportError(f"{module} has no {name}: {_GONE[name]}")
        if name in _OTHERS:
            raise ImportError(f"{module} has no {name}: it is not of this package, import it from {_OTHERS[name]}")
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return find
