"""
title: Example
"""

import json
import os
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
from pydantic import Field

from openwebui_token_tracking.pipes import BaseTrackedPipe, RequestError, StreamContext


class Pipe(BaseTrackedPipe):
    provider = "example"

    class Valves(BaseTrackedPipe.Valves):
        BASE_URL: str = Field(default_factory=lambda: os.environ.get("EXAMPLE_BASE_URL", "http://localhost:9000"))
        API_KEY: str = Field(default="", json_schema_extra={"input": {"type": "password"}})

    async def stream(self, body: dict[str, Any], context: StreamContext) -> AsyncIterator[str]:
        request = {"model": context.model_id, "messages": body["messages"]}
        headers = {"Authorization": f"Bearer {self.valves.API_KEY}"}
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{self.valves.BASE_URL}/chat", json=request, headers=headers) as answer,
        ):
            if answer.status != 200:
                raise RequestError(f"The example provider answered with status {answer.status}.")
            async for line in answer.content:
                piece = json.loads(line)
                if "text" in piece:
                    yield piece["text"]
                else:
                    context.usage.prompt_tokens = piece["tokens_in"]
                    context.usage.response_tokens = piece["tokens_out"]
