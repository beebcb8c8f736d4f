# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""A client that stops in the middle of a message, as a process to be killed there.

`half_client HOST:PORT`: reads bytes from its standard input, sends them as the data of one
StreamInfer call over an HTTP/2 connection of its own, prints a line once they are sent and the
server has answered, and then neither sends nor ends anything.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from voxgate_protos import voxel_inference_pb2 as pb

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS = 0, 1, 4
_END_HEADERS = 4
_MAX_PAYLOAD = 1 << 14
_WINDOW = (1 << 16) - 1  # what may be sent before the server has said anything


def framed(*messages: pb.StreamRequest) -> bytes:
    """The messages as gRPC puts them into a call's data: each behind its length."""
    raws = [message.SerializeToString() for message in messages]
    return b"".join(b"\0" + len(raw).to_bytes(4, "big") + raw for raw in raws)


@asynccontextmanager
async def stuck_client(target: str, data: bytes) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that has sent `data` and sends no more; killed in the end at the latest."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.end_to_end.faults.half_client", target),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(data)
        process.stdin.close()
        assert await asyncio.wait_for(process.stdout.readline(), 20) == b"answered\n"
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.wait()


def _http2(kind: int, stream: int, payload: bytes = b"", flags: int = 0) -> bytes:
    head = len(payload).to_bytes(3, "big") + bytes([kind, flags])
    return head + stream.to_bytes(4, "big") + payload


def _header_block(headers: Sequence[tuple[str, str]]) -> bytes:
    # HPACK without its tables: a literal is 0, name and value, each behind its length.
    return b"".join(
        b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
        for name, value in headers
    )


def main(target: str) -> None:
    data = sys.stdin.buffer.read()
    assert len(data) <= _WINDOW
    host, _, port = target.rpartition(":")
    headers = _header_block(
        [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/voxgate.v1.VoxelInference/StreamInfer"),
            (":authority", target),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ]
    )
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(_PREFACE + _http2(_SETTINGS, 0))
        connection.sendall(_http2(_HEADERS, 1, headers, _END_HEADERS))
        for start in range(0, len(data), _MAX_PAYLOAD):
            connection.sendall(_http2(_DATA, 1, data[start : start + _MAX_PAYLOAD]))
        with connection.makefile("rb") as answers:
            while True:
                head = answers.read(9)
                answers.read(int.from_bytes(head[:3], "big"))
                if head[3] == _DATA:
                    break
        print("answered", flush=True)
        signal.pause()


if __name__ == "__main__":
    main(sys.argv[1])
