"""Actions: buttons below an answer in Open WebUI."""

from openwebui_token_tracking.actions.credit_balance import CreditBalance

__all__ = ["CreditBalance"]
