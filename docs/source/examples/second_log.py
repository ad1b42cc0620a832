"""
title: OpenAI
"""

import csv
import os
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from openwebui_token_tracking import TokenTracker
from openwebui_token_tracking.pipes import OpenAITrackedPipe


class SecondLog(TokenTracker):
    def log_token_usage(
        self,
        provider: str,
        model_id: str,
        user: Mapping[str, Any],
        prompt_tokens: int,
        response_tokens: int,
        sponsored_allowance_name: str | None = None,
    ) -> None:
        with open(os.environ.get("SECOND_LOG", "usage.csv"), "a", newline="") as log:
            row = [datetime.now().isoformat(), user["id"], provider, model_id, prompt_tokens, response_tokens]
            csv.writer(log).writerow(row)


class Pipe(OpenAITrackedPipe):
    tracker_class = SecondLog
