# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""A network between clients and a server that can fall silent: no FIN, no RST."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

_CHUNK = 1 << 16


class Network:
    """Forwards TCP connections to `target` until it falls silent for those it has by then."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._upstream = (host, int(port))
        self._pumps: set[asyncio.Task[None]] = set()
        self._sockets: list[socket.socket] = []
        self.target = ""

    def fall_silent(self) -> int:
        """Forward nothing more on the connections there are, and give their number.

        Their sockets stay open, so the kernel goes on to acknowledge what either side sends.
        Connections that are made from now on are forwarded as before.
        """
        count = len(self._pumps) // 2
        for pump in self._pumps:
            pump.cancel()
        return count

    async def accept_all(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            client, _ = await loop.sock_accept(listener)
            server = socket.socket()
            server.setblocking(False)
            await loop.sock_connect(server, self._upstream)
            self._sockets += [client, server]
            for source, sink in ((client, server), (server, client)):
                pump = asyncio.create_task(_pump(source, sink))
                self._pumps.add(pump)
                pump.add_done_callback(self._pumps.discard)

    async def close(self) -> None:
        pumps = list(self._pumps)
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        for one in self._sockets:
            one.close()


async def _pump(source: socket.socket, sink: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    with suppress(OSError):
        while data := await loop.sock_recv(source, _CHUNK):
            await loop.sock_sendall(sink, data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


@asynccontextmanager
async def network(target: str) -> AsyncIterator[Network]:
    """A network to `target`; clients connect to its own `target`."""
    between = Network(target)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        between.target = f"127.0.0.1:{listener.getsockname()[1]}"
        accepting = asyncio.create_task(between.accept_all(listener))
        try:
            yield between
        finally:
            accepting.cancel()
            await asyncio.gather(accepting, return_exceptions=True)
            await between.close()
