# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Non-maximum suppression of rotated boxes in bird's-eye view."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from voxgate_ops.reference._checks import MAX_SITES, check_row_vector

BOX_FIELDS = 7  # x, y, z, dx, dy, dz, yaw (radians)


def _corners(boxes: Tensor) -> Tensor:
    """Corners in the x-y plane, counter-clockwise: float64 `[R, 4, 2]`."""
    box = boxes.double()
    unit = torch.tensor([[1, 1], [-1, 1], [-1, -1], [1, -1]], dtype=box.dtype, device=box.device)
    local = unit * box[:, None, 3:5] / 2
    cos, sin = torch.cos(box[:, 6]), torch.sin(box[:, 6])
    rotation = torch.stack([cos, sin, -sin, cos], dim=1).reshape(-1, 2, 2)  # row vectors: p @ R
    return local @ rotation + box[:, None, :2]


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def _corners_inside(corners: Tensor, polygon: Tensor) -> Tensor:
    """bool `[R, 4]`: which corners lie in the counter-clockwise quadrilateral (edges included)."""
    edge = polygon.roll(-1, dims=1) - polygon
    to_corner = corners[:, :, None] - polygon[:, None]
    return (_cross(edge[:, None], to_corner) >= -1e-9).all(dim=2)


def _edge_crossings(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Where edges of a meet edges of b: points `[R, 16, 2]` and which of them exist `[R, 16]`."""
    along_a = (a.roll(-1, dims=1) - a)[:, :, None]
    along_b = (b.roll(-1, dims=1) - b)[:, None]
    between = b[:, None] - a[:, :, None]
    det = _cross(along_a, along_b)
    parallel = det == 0
    safe = torch.where(parallel, 1.0, det)
    s, t = _cross(between, along_b) / safe, _cross(between, along_a) / safe
    meets = ~parallel & (s >= 0) & (s <= 1) & (t >= 0) & (t <= 1)
    return (a[:, :, None] + s[..., None] * along_a).flatten(1, 2), meets.flatten(1)


def bev_iou(boxes_a: Tensor, boxes_b: Tensor) -> Tensor:
    """float64 `[R]`: intersection over union in the x-y plane of boxes paired row by row.

    boxes `[R, 7]`. The intersection of two rectangles is the convex hull of the corners of each
    that lie in the other and of the points where their edges meet; its area follows from sorting
    these by angle around their mean. A box without area overlaps nothing.
    """
    a, b = _corners(boxes_a), _corners(boxes_b)
    crossings, meets = _edge_crossings(a, b)
    vertices = torch.cat([a, b, crossings], dim=1)
    present = torch.cat([_corners_inside(a, b), _corners_inside(b, a), meets], dim=1)
    count = present.sum(dim=1, keepdim=True)
    kept = torch.where(present[..., None], vertices, 0.0)
    centre = kept.sum(dim=1) / count.clamp(min=1)
    spoke = kept - centre[:, None]
    angle = torch.atan2(spoke[..., 1], spoke[..., 0]).masked_fill(~present, math.inf)
    order = torch.argsort(angle, dim=1)
    ring = torch.gather(spoke, 1, order[..., None].expand_as(spoke))
    # Absent vertices sort last; replaced by the first one, they close the ring without area.
    absent = torch.arange(ring.shape[1], device=ring.device) >= count
    ring = torch.where(absent[..., None], ring[:, :1], ring)
    overlap = _cross(ring, ring.roll(-1, dims=1)).sum(dim=1).abs() / 2
    areas = [box[:, 3].double() * box[:, 4].double() for box in (boxes_a, boxes_b)]
    has_area = (boxes_a[:, 3:5] > 0).all(dim=1) & (boxes_b[:, 3:5] > 0).all(dim=1)
    union = areas[0] + areas[1] - overlap
    return torch.where(has_area & (count[:, 0] > 0) & (union > 0), overlap / union, 0.0)


def rotated_nms(
    boxes: Tensor,
    scores: Tensor,
    frame: Tensor,
    iou_threshold: float,
    score_threshold: float = 0.0,
    max_per_frame: int = 0,
) -> Tensor:
    """int64 `[Q]`: indices of the kept boxes, by (frame, score descending, index).

    boxes `[R, 7]` (x, y, z, dx, dy, dz, yaw in radians), scores `[R]`, frame int32 `[R]`. A box
    takes part iff its score >= score_threshold and all its values are finite (a NaN score never
    does) and is suppressed when its bird's-eye IoU with a kept box of its frame is >
    iou_threshold; `max_per_frame` 0 keeps all. A box without area overlaps nothing. Raises
    ValueError for shapes that do not fit and NaN thresholds.
    """
    rows = boxes.shape[0]
    if boxes.dim() != 2 or boxes.shape[1] != BOX_FIELDS:
        raise ValueError(f"boxes: expected shape [R, {BOX_FIELDS}], got {list(boxes.shape)}")
    if list(scores.shape) != [rows]:
        raise ValueError(f"scores: expected shape [{rows}], got {list(scores.shape)}")
    check_row_vector(frame, rows, "frame")
    if math.isnan(iou_threshold) or math.isnan(score_threshold):
        raise ValueError(f"iou_threshold {iou_threshold}, score_threshold {score_threshold}: NaN")
    if not 0 <= max_per_frame <= MAX_SITES:
        raise ValueError(f"max_per_frame {max_per_frame} is outside [0, {MAX_SITES}]")
    takes_part = (scores >= score_threshold) & boxes.isfinite().all(dim=1)
    candidates = takes_part.nonzero()[:, 0]
    candidates = candidates[torch.argsort(scores[candidates], descending=True, stable=True)]
    kept: list[int] = []
    for number in torch.unique(frame[candidates]).tolist():
        rest = candidates[frame[candidates] == number]
        kept_here = 0
        while rest.numel() and not (max_per_frame and kept_here == max_per_frame):
            kept.append(int(rest[0]))
            kept_here += 1
            best, rest = boxes[rest[:1]], rest[1:]
            iou = bev_iou(boxes[rest], best.expand(rest.numel(), -1))
            rest = rest[~(iou > iou_threshold)]
    return torch.tensor(kept, dtype=torch.int64, device=boxes.device)
