"""
title: Untracked
description: A plain pipe that tracks nothing. What tracked pipes are compared with.
"""

import json
from collections.abc import AsyncIterator

import aiohttp
from pydantic import BaseModel, Field

PASSED = ("model", "messages", "stream", "stream_options", "max_tokens", "temperature", "tools", "tool_choice")


class Pipe:
    class Valves(BaseModel):
        API_BASE_URL: str = Field(default="https://api.openai.com/v1")
        API_KEY: str = Field(default="")
        MODELS: str = Field(default="gpt-test", description="The models, with commas between them")

    def __init__(self) -> None:
        self.valves = self.Valves()
        self.session: aiohttp.ClientSession | None = None

    def pipes(self) -> list[dict[str, str]]:
        return [{"id": model, "name": model} for model in self.valves.MODELS.split(",")]

    async def pipe(self, body: dict) -> dict | AsyncIterator[str]:
        asked = {name: body[name] for name in PASSED if name in body}
        # Open WebUI puts the function's id before the model's.
        asked["model"] = body["model"].split(".", 1)[1]
        response = await self._post(asked)
        await self._check(response)
        if body.get("stream"):
            return self._stream(response)
        async with response:
            return await response.json()

    async def _stream(self, response: aiohttp.ClientResponse) -> AsyncIterator[str]:
        async with response:
            async for line in response.content:
                if line.strip():
                    yield line.decode().strip()

    async def _post(self, asked: dict) -> aiohttp.ClientResponse:
        if self.session is None:
            self.session = aiohttp.ClientSession()
        headers = {"Authorization": f"Bearer {self.valves.API_KEY}"}
        return await self.session.post(f"{self.valves.API_BASE_URL}/chat/completions", json=asked, headers=headers)

    async def _check(self, response: aiohttp.ClientResponse) -> None:
        if response.status >= 400:
            async with response:
                text = await response.text()
            try:
                text = json.loads(text)["error"]["message"]
            except (ValueError, KeyError, TypeError):
                pass
            raise RuntimeError(text)
