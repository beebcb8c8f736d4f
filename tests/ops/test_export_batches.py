# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""A model must do what its network does for any number of rows and frames, or is not written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import voxgate_ops.nn as spconv
from voxgate_ops.errors import ExportError
from voxgate_ops.export import Voxelizer, export_onnx
from voxgate_ops.metadata import OutputMetadata, read_metadata

SHAPE = [8, 16, 16]
VOXELIZER = Voxelizer([0.0, 0.0, 0.0, 1.6, 1.6, 0.8], [0.1, 0.1, 0.1])


class Network(nn.Module):
    """One layer, and what `head` makes of its answer."""

    def __init__(self, head: Callable[[Any], Any]) -> None:
        super().__init__()
        self.layer = spconv.SubMConv3d(3, 3, 3)
        self.head = head

    def forward(self, x: Any) -> Any:
        return self.head(self.layer(x))


def export(head: Callable[[Any], Any], path: Path, **options: Any) -> Any:
    torch.manual_seed(0)
    given: dict[str, Any] = {"spatial_shape": SHAPE, "num_features": 3}
    return export_onnx(Network(head), path, **(given | options))


def larger_than(limit: int) -> Callable[[Any], Any]:
    def head(x: Any) -> Any:
        return x if x.features.shape[0] > limit else x.minus()

    return head


def even_rows(x: Any) -> Any:
    return x if x.features.shape[0] % 2 == 0 else x.minus()


def few_frames(x: Any) -> Any:
    return x if x.batch_size < 5 else x.minus()


def several_frames(x: Any) -> Any:
    return x if x.batch_size > 1 else x.minus()


@pytest.mark.parametrize(
    ("head", "condition", "for_which"),
    [
        (larger_than(10), "(return x if x.features.shape[0] > limit else x.minus())", "for 2 rows"),
        (even_rows, "% 2 == 0", "for 3 rows"),
        (few_frames, "x.batch_size < 5", "in 8 frames"),
        (several_frames, "x.batch_size > 1", "in 1 frames"),
    ],
)
def test_a_decision_by_a_number_of_rows_is_refused(
    tmp_path: Path, head: Callable[[Any], Any], condition: str, for_which: str
) -> None:
    with pytest.raises(ExportError) as caught:
        export(head, tmp_path / "m.onnx")
    line = head.__code__.co_firstlineno + 1
    assert str(caught.value).startswith(f"{__file__}:{line} decides by a number of rows or frames")
    assert condition in str(caught.value) and for_which in str(caught.value)
    assert not (tmp_path / "m.onnx").exists()


def assured(x: Any) -> Any:
    assert x.batch_size >= 1 and x.features.shape[0] >= 2
    return x


def longest(x: Any) -> Any:
    score = x.features[:, 0]
    best = torch.topk(score, min(20, score.shape[0]))[1]
    return x.select_by_index(torch.sort(best)[0])


@pytest.mark.parametrize("head", [larger_than(-1), assured, longest])
def test_what_holds_for_all_sizes_and_what_takes_what_there_is_are_exported(
    tmp_path: Path, head: Callable[[Any], Any]
) -> None:
    export(head, tmp_path / "m.onnx", batchable=False)


def pruned_by_count(x: Any) -> Any:
    y = x.select_by_index(x.features[:, 0] > 0)
    return y if y.features.shape[0] > 50 else y.minus()


def by_value(x: Any) -> Any:
    return x if x.features.sum() > 0 else x.minus()


@pytest.mark.parametrize("head", [pruned_by_count, by_value])
def test_a_decision_by_values_names_its_line_and_nothing_else(
    tmp_path: Path, head: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ExportError) as caught:
        export(head, tmp_path / "m.onnx")
    last = head.__code__.co_firstlineno + (2 if head is pruned_by_count else 1)
    assert f"({__file__}:{last})" in str(caught.value)
    assert "def forward" not in capfd.readouterr().err


def test_what_the_network_prints_is_not_lost(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def head(x: Any) -> Any:
        import sys

        print("from the network", file=sys.stderr)
        return x

    export(head, tmp_path / "m.onnx")
    assert "from the network" in capfd.readouterr().err


def mean_of_all(x: Any) -> Tensor:
    features: Tensor = x.features - x.features.mean(0)
    return features


def shifted_sites(x: Any) -> Any:
    return x.replace_feature(mean_of_all(x))


def dense_of_all(x: Any) -> Any:
    dense = x.dense()
    return dense - dense.max()


def kept(x: Any) -> Any:
    return x.select_by_index(x.features[:, 0] > x.features[:, 0].mean())


@pytest.mark.parametrize("voxelizer", [None, VOXELIZER], ids=["voxels", "points"])
@pytest.mark.parametrize(
    ("head", "output"),
    [
        (mean_of_all, "out"),
        (shifted_sites, "out_features"),
        (dense_of_all, "out"),
        (kept, "out_coords"),
        (lambda x: mean_of_all(x).argsort(0).to(torch.int32), "out"),
    ],
    ids=["rows", "sparse", "dense", "pruned", "integers"],
)
def test_an_answer_that_depends_on_its_batch_is_refused(
    tmp_path: Path, head: Any, output: str, voxelizer: Voxelizer | None
) -> None:
    path = tmp_path / "m.onnx"
    with pytest.raises(ExportError, match=rf"'{output}' of a frame depends on what shares its"):
        export(head, path, voxelizer=voxelizer)
    assert not path.exists()
    export(head, path, voxelizer=voxelizer, batchable=False)
    assert not read_metadata(path).batchable


def test_detections_that_depend_on_their_batch_are_refused(tmp_path: Path) -> None:
    def head(x: Any) -> Any:
        score = x.features[:, 0]
        rows = torch.nonzero(score > score.mean()).squeeze(1)
        return {"score": score[rows], "frame": x.indices[rows, 0]}

    def of_each(x: Any) -> Any:
        rows = torch.nonzero(x.features[:, 0] > 0).squeeze(1)
        return {"score": x.features[rows, 0], "frame": x.indices[rows, 0]}

    outputs = {name: OutputMetadata(meaning="detections", frame="frame") for name in ("score",)}
    outputs["frame"] = OutputMetadata(meaning="detections", frame="frame")
    with pytest.raises(ExportError, match="'score' of a frame depends"):
        export(head, tmp_path / "m.onnx", outputs=outputs)
    export(of_each, tmp_path / "m.onnx", outputs=outputs)


def test_a_frame_of_the_sample_may_be_empty(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    coords = np.array([[f, z, 3, x] for f in (0, 2) for z in range(4) for x in range(4)], np.int32)
    sample = {"coords": coords, "features": rng.random((32, 3), np.float32), "batch_size": 3}
    export(lambda x: x.dense(), tmp_path / "m.onnx", sample=sample)
