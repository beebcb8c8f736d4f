# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""How much the server, and each client, may have in flight: bytes and streams.

Lives on one event loop; nothing here is for threads.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from weakref import WeakValueDictionary

from voxgate_server.errors import Overloaded
from voxgate_server.security import Client

# Between two waiters that are let go on while there is room. A message that has already arrived
# is read and counted in about this time, so that a thousand streams do not read on for one's room.
_PACE = 0.001


class ByteBudget:
    """Bytes in flight against a limit, in which those who read on wait for room.

    `acquire` never waits or fails: the bytes are already here, so the last message may pass the
    limit. Who is about to read more calls `wait_for_room` first. Waiters go on in the order they
    came: one for every release that leaves room, and another every `pace` seconds while there is
    room, because who was let go on may find that its client sends nothing.

    Args:
        limit: in bytes; from there on the budget is full.
        pace: in seconds.
    """

    def __init__(self, limit: int, pace: float = _PACE) -> None:
        self._limit = limit
        self._pace = pace
        self._waiters: OrderedDict[asyncio.Future[None], None] = OrderedDict()
        self._next: asyncio.TimerHandle | None = None
        self.used = 0

    @property
    def limit(self) -> int:
        return self._limit

    @limit.setter
    def limit(self, limit: int) -> None:
        self._limit = limit
        self._admit_next()

    @property
    def full(self) -> bool:
        return self.used >= self._limit

    @property
    def waiting(self) -> int:
        """How many wait for room."""
        return len(self._waiters)

    def acquire(self, size: int) -> None:
        """Count `size` bytes as in flight."""
        if size < 0:
            raise ValueError(f"cannot acquire {size} bytes")
        self.used += size

    def release(self, size: int) -> None:
        """Count `size` bytes, acquired before, as gone."""
        if not 0 <= size <= self.used:
            raise ValueError(f"cannot release {size} bytes of {self.used} in flight")
        self.used -= size
        self._admit_next()

    async def wait_for_room(self) -> None:
        """Return when the budget is not full and everyone who came before has gone on."""
        if not self.full and not self._waiters:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters[waiter] = None
        self._pace_next()
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter in self._waiters:
                del self._waiters[waiter]
            else:
                self._admit_next()  # let go on, but gone: its turn is the next one's
            raise

    def _admit_next(self) -> None:
        """Let the first waiter go on if there is room, and see to the one after it."""
        if self.full or not self._waiters:
            return
        waiter, _ = self._waiters.popitem(last=False)
        if not waiter.done():
            waiter.set_result(None)
        self._pace_next()

    def _pace_next(self) -> None:
        if self._next is None and self._waiters and not self.full:
            loop = asyncio.get_running_loop()
            self._next = loop.call_later(self._pace, self._next_is_due)

    def _next_is_due(self) -> None:
        self._next = None
        self._admit_next()


class Hold:
    """Bytes of one frame, or of one call, in every budget that counts them.

    `release` gives them back and may be called again: whoever ends the frame calls it.
    """

    __slots__ = ("_account", "_server", "size")

    def __init__(self, account: ClientAccount, server: ByteBudget) -> None:
        self._account = account  # also keeps the account known while the bytes are here
        self._server = server
        self.size = 0

    def add(self, size: int) -> None:
        """Count `size` bytes more."""
        self._account.bytes.acquire(size)
        self._server.acquire(size)
        self.size += size

    def remove(self, size: int) -> None:
        """Give back `size` of the bytes."""
        if not 0 <= size <= self.size:
            raise ValueError(f"cannot give back {size} bytes of {self.size} held")
        self.size -= size
        self._account.bytes.release(size)
        self._server.release(size)

    def release(self) -> None:
        if self.size:
            self.remove(self.size)


class ClientAccount:
    """What one client has in flight over all its calls."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.bytes = ByteBudget(client.max_in_flight_bytes)
        self.streams = 0

    def update(self, client: Client) -> None:
        """Take over the limits of `client`, as its token may grant others by now."""
        self._client = client
        if self.bytes.limit != client.max_in_flight_bytes:
            self.bytes.limit = client.max_in_flight_bytes

    def open_stream(self) -> None:
        """Count a stream, which `close_stream` ends.

        Raises:
            Overloaded: the client has all the streams it may have.
        """
        limit = self._client.max_streams
        if self.streams >= limit:
            raise Overloaded(
                f"max_streams: {self._client.name} has {self.streams} open streams of at most "
                f"{limit}: close one before opening another"
            )
        self.streams += 1

    def close_stream(self) -> None:
        if self.streams <= 0:
            raise ValueError("no stream is open")
        self.streams -= 1

    def check_room(self) -> None:
        """Raise Overloaded if the client's bytes in flight are at their limit."""
        if self.bytes.full:
            raise Overloaded(
                f"max_in_flight_bytes: {self._client.name} has {self.bytes.used} bytes in flight "
                f"of at most {self.bytes.limit}: wait for answers before sending more"
            )


class ClientAccounts:
    """The accounts of the clients that have anything open.

    An account lives as long as a call or a Hold refers to it; nothing else keeps it, so that
    addresses that come and go fill no memory.
    """

    def __init__(self) -> None:
        self._accounts: WeakValueDictionary[str, ClientAccount] = WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._accounts)

    def account(self, client: Client) -> ClientAccount:
        """The account of `client`, to be kept for as long as its call lasts."""
        account = self._accounts.get(client.key)
        if account is None:
            account = self._accounts[client.key] = ClientAccount(client)
        else:
            account.update(client)
        return account


class Admission:
    """The server's budget of bytes and its clients' accounts.

    Args:
        max_in_flight_bytes: over all clients.
    """

    def __init__(self, max_in_flight_bytes: int) -> None:
        self.bytes = ByteBudget(max_in_flight_bytes)
        self._accounts = ClientAccounts()

    def account(self, client: Client) -> ClientAccount:
        """The account of `client`, to be kept for as long as its call lasts."""
        return self._accounts.account(client)

    def hold(self, account: ClientAccount) -> Hold:
        """An empty Hold of `account`, for what a call reads and is answered."""
        return Hold(account, self.bytes)

    def check_room(self, account: ClientAccount) -> None:
        """Refuse a call of one message before it is read: its client may as well send it again.

        Raises:
            Overloaded: the client or the server has all the bytes in flight that it may have.
        """
        account.check_room()
        if self.bytes.full:
            raise Overloaded(
                f"max_in_flight_bytes: the server has {self.bytes.used} bytes in flight of at "
                f"most {self.bytes.limit}: send again later"
            )

    def admit(self, account: ClientAccount, size: int) -> Hold:
        """A Hold of the `size` bytes of such a call. Raises Overloaded as `check_room` does."""
        self.check_room(account)
        hold = self.hold(account)
        hold.add(size)
        return hold

    async def wait_for_room(self, account: ClientAccount) -> None:
        """Return when both the client and the server have room and those before have gone on."""
        # The client's first: a turn at the server's is not spent on who then waits on.
        await account.bytes.wait_for_room()
        await self.bytes.wait_for_room()
        while account.bytes.full:
            await account.bytes.wait_for_room()
            await self.bytes.wait_for_room()
