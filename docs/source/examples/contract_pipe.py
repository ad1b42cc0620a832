"""
title: Example
"""

import json
import os
from collections.abc import Iterator
from typing import Any

import httpx
from pydantic import Field

from openwebui_token_tracking.pipes import BaseTrackedPipe, RequestError, TokenCount


class Pipe(BaseTrackedPipe):
    class Valves(BaseTrackedPipe.Valves):
        API_KEY: str = Field(default="", json_schema_extra={"input": {"type": "password"}})

    def __init__(self) -> None:
        super().__init__(provider="example", url=os.environ.get("EXAMPLE_BASE_URL", "http://localhost:9000"))

    def _headers(self) -> dict[str, Any]:
        return {"Authorization": f"Bearer {self.valves.API_KEY}"}

    def _payload(self, model_id: str, body: dict[str, Any]) -> dict[str, Any]:
        return {"model": model_id, "messages": body["messages"]}

    def _make_stream_request(
        self, headers: dict[str, Any], payload: dict[str, Any]
    ) -> tuple[TokenCount, Iterator[str]]:
        tokens = TokenCount()

        def pieces() -> Iterator[str]:
            with httpx.stream("POST", f"{self.url}/chat", json=payload, headers=headers, timeout=60) as answer:
                if answer.status_code != 200:
                    raise RequestError(f"The example provider answered with status {answer.status_code}.")
                for line in answer.iter_lines():
                    piece = json.loads(line)
                    if "text" in piece:
                        yield piece["text"]
                    else:
                        tokens.prompt_tokens = piece["tokens_in"]
                        tokens.response_tokens = piece["tokens_out"]

        return tokens, pieces()

    def _make_non_stream_request(self, headers: dict[str, Any], payload: dict[str, Any]) -> tuple[TokenCount, str]:
        tokens, pieces = self._make_stream_request(headers, payload)
        return tokens, "".join(pieces)
