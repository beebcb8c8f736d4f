# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""A frame serialised once and sent many times, each time under another id."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime

from voxgate_client.frame_messages import frame_message, varint
from voxgate_client.messages import Frame
from voxgate_protos import voxel_inference_pb2 as pb

_FRAME_TAG = bytes([pb.StreamRequest.FRAME_FIELD_NUMBER << 3 | 2])  # 2: length-delimited


@dataclasses.dataclass(frozen=True)
class PackedFrame:
    """What repeats of a frame share, as bytes. Stamping one costs a copy, no packing.

    Attributes:
        body: a serialised Frame without id and time.
        rows: its sites, or points.
    """

    body: bytes
    rows: int

    @staticmethod
    def of(frame: Frame, max_bytes: int = 0) -> PackedFrame:
        """Packs a frame; its own `frame_id` and `captured_at` are left out.

        Raises:
            MessageError: it cannot be sent as it is, or is above `max_bytes`.
        """
        message = frame_message(
            dataclasses.replace(frame, frame_id="-", captured_at=None), max_bytes
        )
        message.ClearField("frame_id")
        rows = message.points.num_points or message.voxels.num_sites
        return PackedFrame(message.SerializeToString(), rows)

    def request(self, frame_id: str, captured_at: datetime | None = None) -> bytes:
        """A serialised StreamRequest with this frame under the given id."""
        head = pb.Frame(frame_id=frame_id)
        if captured_at is not None:
            head.captured_at.FromDatetime(captured_at.astimezone(UTC))
        # Serialised messages one after the other are their fields together.
        stamp = head.SerializeToString()
        length = varint(len(stamp) + len(self.body))
        return b"".join((_FRAME_TAG, length, stamp, self.body))
