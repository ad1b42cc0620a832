"""
title: OpenAI
"""

from datetime import date

from openwebui_token_tracking import TokenTracker
from openwebui_token_tracking.pipes import OpenAITrackedPipe


class WeekendsFree(TokenTracker):
    def is_paid(self, model_id: str) -> bool:
        is_weekend = date.today().weekday() >= 5
        return not is_weekend and super().is_paid(model_id)


class Pipe(OpenAITrackedPipe):
    tracker_class = WeekendsFree
