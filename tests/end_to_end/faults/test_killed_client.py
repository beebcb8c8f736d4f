# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""A client killed in the middle of a message or of a frame: its neighbours notice nothing."""

from __future__ import annotations

from pathlib import Path

import grpc
from tests.end_to_end.faults.conftest import StartProcess
from tests.end_to_end.faults.half_client import framed, stuck_client
from tests.end_to_end.faults.load import loaded_streams
from tests.server.driver import chunks, frame
from tests.server.models import voxel_model

from voxgate_protos import voxel_inference_pb2 as pb

# Some kB each: the half of one is several reads.
FRAME = frame("cut", 1000)
CHUNKS = [pb.StreamRequest(chunk=chunk) for chunk in chunks(FRAME, [400, 400, 200])]
MESSAGE = framed(pb.StreamRequest(frame=FRAME))
LATER_CHUNK = framed(CHUNKS[1])
CHUNK_BYTES = CHUNKS[0].ByteSize()

# What is sent after `open`; how much of it are whole messages, in bytes; and the outcomes it has.
KILLED = {
    "before a frame": (b"", 0, 0),
    "in the length of a frame": (MESSAGE[:3], 0, 0),
    "in mid-frame": (MESSAGE[: len(MESSAGE) // 2], 0, 0),
    "between chunks": (framed(CHUNKS[0]), CHUNK_BYTES, 1),
    "in mid-chunk": (
        framed(CHUNKS[0]) + LATER_CHUNK[: len(LATER_CHUNK) // 2],
        CHUNK_BYTES,
        1,
    ),
}


async def test_a_client_killed_in_the_middle_costs_its_neighbours_nothing(
    start_process: StartProcess, tmp_path: Path
) -> None:
    for name in ("voxels", "theirs"):
        voxel_model(tmp_path / "models" / name / "1" / "model.onnx")
    server = await start_process(tmp_path / "models", chunk_timeout=60)
    opening = framed(pb.StreamRequest(open=pb.StreamOpen(model="theirs")))
    received = cancelled = 0
    async with loaded_streams(server, [{}, {"chunked": True}]) as neighbours:
        for where, (data, whole_bytes, begun) in KILLED.items():
            received, cancelled = received + whole_bytes, cancelled + begun
            async with stuck_client(server.target, opening + data) as client:
                await server.until(
                    lambda now, r=received: (
                        now.total("voxgate_active_streams", model="theirs") == 1
                        and now.total("voxgate_received_bytes_total", model="theirs") == r
                    ),
                    f"client {where}",
                )
                client.kill()
                await client.wait()
            await server.until(
                lambda now, c=cancelled: (
                    now.total("voxgate_active_streams", model="theirs") == 0
                    and now.outcomes(model="theirs") == ({"cancelled": c} if c else {})
                    and now.total("voxgate_frames_received_total", model="theirs") == c
                ),
                f"end of the stream of the client killed {where}",
            )
            for neighbour in neighbours:
                await neighbour.more()
    for neighbour in neighbours:
        assert not neighbour.errors and not neighbour.unanswered, neighbour
        assert neighbour.code is grpc.StatusCode.OK
    outcomes = (await server.balanced()).outcomes()
    assert outcomes == {"ok": sum(len(n.sent) for n in neighbours), "cancelled": cancelled}
