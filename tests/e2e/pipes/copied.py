"""
title: Copied
description: A pipe as people wrote them for version 0.1, which sends its requests itself. All of it blocks.
"""

import json

import requests
from openwebui_token_tracking.pipes.base_tracked_pipe import BaseTrackedPipe, RequestError, TokenCount
from pydantic import BaseModel, Field


class Pipe(BaseTrackedPipe):
    class Valves(BaseModel):
        API_KEY: str = Field(default="")
        API_BASE_URL: str = Field(default="https://api.openai.com/v1")
        PROVIDER: str = Field(default="openai")
        DEBUG: bool = Field(default=False)

    def __init__(self):
        super().__init__(provider="", url="")

    def pipes(self):
        self.provider = self.valves.PROVIDER
        return super().pipes()

    def pipe(self, body, __user__, __metadata__):
        self.provider = self.valves.PROVIDER
        return super().pipe(body, __user__, __metadata__)

    def _headers(self):
        return {"Authorization": f"Bearer {self.valves.API_KEY}"}

    def _payload(self, model_id, body):
        return {**body, "model": model_id}

    def _send(self, headers, payload):
        address = f"{self.valves.API_BASE_URL}/chat/completions"
        answer = requests.post(address, headers=headers, json=payload, stream=payload["stream"], timeout=(3, 60))
        if answer.status_code != 200:
            raise RequestError(f"HTTP Error {answer.status_code}: {answer.text}")
        return answer

    def _make_stream_request(self, headers, payload):
        tokens = TokenCount()

        def pieces():
            with self._send(headers, {**payload, "stream": True, "stream_options": {"include_usage": True}}) as answer:
                for line in answer.iter_lines():
                    if line.startswith(b"data: {"):
                        used = json.loads(line[6:]).get("usage")
                        if used:
                            tokens.prompt_tokens = used["prompt_tokens"]
                            tokens.response_tokens = used["completion_tokens"]
                    yield line.decode()

        return tokens, pieces()

    def _make_non_stream_request(self, headers, payload):
        made = self._send(headers, {**payload, "stream": False}).json()
        return TokenCount(made["usage"]["prompt_tokens"], made["usage"]["completion_tokens"]), made
