"""
title: OpenAI
"""

from datetime import datetime

from openwebui_token_tracking import TokenTracker
from openwebui_token_tracking.pipes import OpenAITrackedPipe
from openwebui_token_tracking.tracking import ModelRequest


class NotInTheEvening(TokenTracker):
    def admit(self, request: ModelRequest) -> None:
        if request.model_id == "gpt-4o" and datetime.now().hour >= 18:
            raise PermissionError("gpt-4o rests from 18:00 on. Please take another model.")


class Pipe(OpenAITrackedPipe):
    tracker_class = NotInTheEvening
