"""An app on the PyPI package `rsocket`, driven by lines. See tests/interop/README.md."""

import argparse
import asyncio
import logging
import os
import sys
from datetime import timedelta

from rsocket.exceptions import RSocketTransportError
from rsocket.helpers import single_transport_provider
from rsocket.payload import Payload
from rsocket.rsocket_client import RSocketClient
from rsocket.transports.aiohttp_websocket import TransportAioHttpClient
from rsocket.transports.tcp import TransportTCP

import envelope
from handler import Handler, say
from metrics import Metrics

PUSH_TIMEOUT = 30


class WebSocket(TransportAioHttpClient):
    """The package's transport, which does not notice the end of its connection."""

    async def handle_incoming_ws_messages(self):
        await super().handle_incoming_ws_messages()
        self._incoming_frame_queue.put_nowait(RSocketTransportError())


class App:
    def __init__(self, args):
        self.args = args
        self.metrics = Metrics(args.name, args.bytes, args.text)
        self.handler = None
        self.client = None
        self.stopped = False

    async def stay_connected(self):
        while not self.stopped:
            try:
                await self.connection()
            except OSError as error:
                say("RETRY", self.args.name, error)
            if not self.stopped:
                await asyncio.sleep(self.args.backoff / 1000)

    async def connection(self):
        self.handler = Handler(self.args.name, self.metrics)
        self.client = RSocketClient(
            single_transport_provider(await self.transport()),
            handler_factory=lambda: self.handler,
            keep_alive_period=timedelta(milliseconds=self.args.keepalive),
            max_lifetime_period=timedelta(seconds=90),
            fragment_size_bytes=self.args.mtu or None,
        )
        async with self.client:
            await self.handler.closed.wait()
        if self.handler.connected:
            say("CLOSED", self.args.name)

    async def transport(self):
        if self.args.transport == "ws":
            return WebSocket(f"http://{self.args.host}:{self.args.port}/")
        return TransportTCP(*await asyncio.open_connection(self.args.host, self.args.port))

    async def run(self, command):
        if command.startswith("push") and not (self.handler and self.handler.key):
            say("PUSH-FAILED", self.args.name, "no key yet")
            return
        if command == "inc":
            say("INCREMENTED", self.args.name, self.metrics.increment())
        elif command == "push":
            await self.client.fire_and_forget(self.sealed())
            say("PUSHED", self.args.name)
        elif command == "pushblocking":
            await self.push_blocking(self.sealed())
        elif command == "pushrubbish":
            await self.push_blocking(Payload(b"not an envelope", b"not a key"))
        elif command == "digest":
            say("DIGEST", self.args.name, self.metrics.describe())
        elif command == "close":
            self.stopped = True
            if self.handler:
                self.handler.closed.set()
        else:
            say("UNKNOWN", command)

    def sealed(self):
        return envelope.seal(self.handler.key, self.metrics.text())

    async def push_blocking(self, payload):
        try:
            await asyncio.wait_for(self.client.request_response(payload), PUSH_TIMEOUT)
            say("PUSHED", self.args.name)
        except Exception as error:
            say("PUSH-FAILED", self.args.name, repr(error))


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--transport", choices=["tcp", "ws"], default="tcp")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--name", default="python")
    parser.add_argument("--bytes", type=int, default=0)
    parser.add_argument("--text")
    parser.add_argument("--mtu", type=int, default=65536)
    parser.add_argument("--keepalive", type=int, default=20_000)
    parser.add_argument("--backoff", type=int, default=100)
    return parser.parse_args()


async def main():
    app = App(arguments())
    connected = asyncio.create_task(app.stay_connected())
    while line := await asyncio.to_thread(sys.stdin.readline):
        if line.strip() == "exit":
            break
        await app.run(line.strip())
    connected.cancel()


if __name__ == "__main__":
    logging.disable(logging.ERROR)
    asyncio.run(main())
    os._exit(0)
