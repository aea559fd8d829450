import asyncio

import envelope
from rsocket.helpers import create_future
from rsocket.request_handler import BaseRequestHandler


def say(*words):
    print(*words, flush=True)


class Handler(BaseRequestHandler):
    """Takes keys and answers pulls on one connection."""

    def __init__(self, name, metrics):
        self.name = name
        self.metrics = metrics
        self.key = None
        self.connected = True
        self.closed = asyncio.Event()

    def take_key(self, payload):
        first = self.key is None
        self.key = bytes(payload.data)
        if first:
            say("READY", self.name)

    async def request_fire_and_forget(self, payload):
        self.take_key(payload)

    async def request_response(self, payload):
        self.take_key(payload)
        answer = envelope.seal(self.key, self.metrics.text())
        say("PULLED", self.name, "plaintext" if self.key == envelope.PLAINTEXT else "sealed",
            f"data={len(answer.data)}", f"metadata={len(answer.metadata)}")
        return create_future(answer)

    async def on_error(self, error_code, payload):
        say("ERROR", self.name, f"0x{int(error_code):03x}", "stream=0", (payload.data or b"").decode())

    async def on_connection_error(self, rsocket, exception):
        self.connected = False
        say("RETRY", self.name, exception)
        self.closed.set()

    async def on_close(self, rsocket, exception=None):
        self.closed.set()
