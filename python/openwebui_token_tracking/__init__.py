"""Tracks what each user of Open WebUI spends on paid models, and stops anyone who would spend more than granted.

This package is pure Python. All that decides, charges and touches the database happens in the executable
``owui-token-tracking``, in a process of its own. Importing it loads nothing else: what is needed comes when it is used.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from openwebui_token_tracking.tracking import TokenTracker

__all__ = ["TokenTracker"]


def __getattr__(name: str) -> object:
    if name == "TokenTracker":
        from openwebui_token_tracking.tracking import TokenTracker

        return TokenTracker
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
