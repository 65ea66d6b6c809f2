"""Django Channels: a consumer in a group, over channels_redis; `SCALE_LAYER` names the class of the channel layer."""

from __future__ import annotations

import os
from typing import Any

import django
from django.conf import settings

settings.configure(
    CHANNEL_LAYERS={"default": {"BACKEND": os.environ["SCALE_LAYER"], "CONFIG": {"hosts": [os.environ["SCALE_REDIS"]]}}}
)
django.setup()

from channels.generic.websocket import AsyncWebsocketConsumer  # noqa: E402 - Django must be set up before


class Consumer(AsyncWebsocketConsumer):
    """A subscriber."""

    async def connect(self) -> None:
        await self.channel_layer.group_add("all", self.channel_name)
        await self.accept()

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard("all", self.channel_name)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        _, count, size = (text_data or "").split(" ")
        for _ in range(int(count)):
            await self.channel_layer.group_send("all", {"type": "published", "text": "x" * int(size)})

    async def published(self, event: dict[str, Any]) -> None:
        """Send what the group gets."""
        await self.send(text_data=event["text"])


app = Consumer.as_asgi()
