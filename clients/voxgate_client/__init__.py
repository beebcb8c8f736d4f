# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Python client of Voxgate: stream sparse voxels or point clouds, get numpy arrays back.

>>> from voxgate_client import Frame, VoxgateClient, read_points
>>> cloud = read_points("sweep.bin")
>>> with VoxgateClient("localhost:8001") as client:
...     result = client.infer("unet", points=cloud.points)
"""

from voxgate_client.async_client import AsyncVoxgateClient
from voxgate_client.async_frame_stream import AsyncFrameStream
from voxgate_client.backoff import Backoff
from voxgate_client.client import VoxgateClient
from voxgate_client.frame_stream import FrameStream
from voxgate_client.messages import (
    Answer,
    Frame,
    FrameFailure,
    FrameResult,
    MessageError,
    ModelDescription,
    Notice,
    OutputDescription,
    QueuePolicy,
    StreamOptions,
    Timing,
    VoxgateRpcError,
)
from voxgate_client.packed_frame import PackedFrame
from voxgate_client.point_cloud import PointCloud, ReaderError
from voxgate_client.readers import read_points
from voxgate_client.voxelize import VoxelGrid, voxelize

__all__ = [
    "Answer",
    "AsyncFrameStream",
    "AsyncVoxgateClient",
    "Backoff",
    "Frame",
    "FrameFailure",
    "FrameResult",
    "FrameStream",
    "MessageError",
    "ModelDescription",
    "Notice",
    "OutputDescription",
    "PackedFrame",
    "PointCloud",
    "QueuePolicy",
    "ReaderError",
    "StreamOptions",
    "Timing",
    "VoxelGrid",
    "VoxgateClient",
    "VoxgateRpcError",
    "read_points",
    "voxelize",
]
