# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""How far an exported model may be from eager torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

import voxgate_ops.nn as spconv
from voxgate_ops.errors import ExportError
from voxgate_ops.export import Voxelizer, export_onnx, verification
from voxgate_ops.metadata import OutputMetadata, Precision
from voxgate_ops.session import open_session

Array = npt.NDArray[Any]


class Known:
    """A reference with a given output, and one under other rounding."""

    def __init__(
        self, output: Array, rounded: Array | None = None, precision: Precision = "fp32"
    ) -> None:
        self.precision = precision
        self.outputs = {"y": output, "y_coords": output}
        self._rounded = output if rounded is None else rounded

    def with_other_rounding(self, name: str) -> Array:
        return self._rounded


def difference(
    actual: Array,
    expected: Array,
    rounded: Array | None = None,
    name: str = "y",
    precision: Precision = "fp32",
) -> float:
    known = Known(expected, rounded, precision)
    return verification._difference(name, actual, known)  # type: ignore[arg-type]


def floats(*values: float) -> Array:
    return np.array(values, dtype=np.float32)


def test_close_floats_pass_and_their_difference_is_told() -> None:
    assert difference(floats(100.0, 0.0), floats(100.0, 0.005)) == pytest.approx(0.005)
    assert difference(floats(), floats()) == 0.0


@pytest.mark.parametrize(
    ("actual", "expected"),
    [
        (floats(100.0, 0.0), floats(100.0, 0.011)),
        (floats(1e-12), floats(2e-12)),
        (floats(1.0), floats(0.0)),
        (floats(1.0, np.nan), floats(1.0, 1.0)),
        (floats(1.0, 1.0), floats(1.0, np.nan)),
        (floats(np.inf), floats(-np.inf)),
        (floats(1.0, 2.0), floats(1.0)),
        (floats(1.0).astype(np.float64), floats(1.0)),
    ],
    ids=["far", "tiny", "zero", "nan", "no nan", "inf", "shape", "dtype"],
)
def test_what_is_refused(actual: Array, expected: Array) -> None:
    with pytest.raises(ExportError, match="output 'y' disagrees with eager torch"):
        difference(actual, expected)


def test_equal_non_finite_values_pass() -> None:
    values = floats(np.nan, np.inf, -np.inf, 1.0)
    assert difference(values, values.copy()) == 0.0


def test_rounding_that_the_network_amplifies_passes() -> None:
    expected, exact = floats(1.0, 0.5), np.array([1.0, 0.5002])
    assert difference(floats(1.0, 0.5005), expected, exact) == pytest.approx(5e-4, rel=1e-3)
    with pytest.raises(ExportError, match=r"allowed 0\.0008"):
        difference(floats(1.0, 0.501), expected, exact)
    with pytest.raises(ExportError, match="disagrees"):  # however bad eager torch is
        difference(floats(1.0, 0.51), expected, np.array([1.0, 0.9]))


def test_integers_may_flip_rarely_and_coords_never() -> None:
    expected = np.arange(1000, dtype=np.int32)
    flipped = expected.copy()
    flipped[:4] += 1
    assert difference(flipped, expected) == 1.0
    with pytest.raises(ExportError, match="0.004 of the values"):
        difference(flipped, expected, name="y_coords")
    flipped[:20] += 1
    with pytest.raises(ExportError, match="0.02 of the values, allowed 0.005"):
        difference(flipped, expected)
    unstable = expected.copy()
    unstable[:10] += 1
    assert difference(flipped, expected, unstable) == 2.0


@pytest.mark.parametrize(
    ("precision", "passes", "fails"), [("fp16", 0.0199, 0.021), ("bf16", 0.0499, 0.051)]
)
def test_16_bits_have_their_own_tolerance(
    precision: Precision, passes: float, fails: float
) -> None:
    one = floats(1.0)
    assert difference(one + np.float32(passes), one, precision=precision) > 0.01
    with pytest.raises(ExportError, match="allowed 0.0[25]"):
        difference(one + np.float32(fails), one, precision=precision)
    # Eager torch with rounded weights is as far away.
    assert difference(one + np.float32(fails), one, one * 1.02, precision=precision) > 0.02
    with pytest.raises(ExportError, match="output 'y_coords' disagrees"):
        site = np.array([[0, 1]], np.int32)
        difference(site + 1, site, name="y_coords", precision=precision)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_in_16_bits_a_few_scores_may_be_far(precision: Precision) -> None:
    expected = np.ones(1000, np.float32)
    scores = expected.copy()
    scores[:15] = 0.4
    assert difference(scores, expected, precision=precision) == pytest.approx(0.6)
    with pytest.raises(ExportError, match="allowed"):
        difference(scores, expected)
    scores[:90] = 0.4
    with pytest.raises(ExportError, match="allowed"):
        difference(scores, expected, precision=precision)
    # As many are far with rounded weights.
    assert difference(scores, expected, scores, precision=precision) == pytest.approx(0.6)
    scores[:300] = 0.4
    with pytest.raises(ExportError, match="allowed"):
        difference(scores, expected, scores, precision=precision)
    for bad in (np.inf, np.nan):  # what overflows is never a matter of rounding
        scores = expected.copy()
        scores[7] = bad
        with pytest.raises(ExportError, match="absolute difference (inf|nan)"):
            difference(scores, expected, precision=precision)


class Amplifying(nn.Module):
    """Adds a large bias that a batch norm takes away: eager float32 keeps few digits."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = spconv.SubMConv3d(4, 4, 3, bias=True)
        self.norm = nn.BatchNorm1d(4)
        with torch.no_grad():
            self.conv.bias.fill_(2e3)
            self.norm.running_mean.fill_(2e3)

    def forward(self, x: spconv.SparseConvTensor) -> Tensor:
        return self.norm(self.conv(x).features)


def test_an_ill_conditioned_network_is_exported(tmp_path: Path) -> None:
    torch.manual_seed(0)
    report = export_onnx(Amplifying(), tmp_path / "m.onnx", spatial_shape=[8, 8, 8], num_features=4)
    sample = verification.generated_sample([8, 8, 8], None, 4, 2, 0)
    given = {"coords": sample.rows, "features": sample.columns}
    (out,) = open_session(report.path).run(None, given)
    # Otherwise this tests nothing.
    assert report.differences["out"] > verification.TOLERANCES["fp32"].relative * np.abs(out).max()


class OnlyFloat32(nn.Module):
    def forward(self, x: spconv.SparseConvTensor) -> dict[str, Tensor]:
        assert x.features.dtype == torch.float32
        return {"y": x.features}


def test_without_float64_the_float32_output_stands_in() -> None:
    sample = verification.generated_sample([4, 4, 4], None, 2, 1, 0)
    plan = verification.OutputPlan({}, {"y": OutputMetadata(meaning="per_site")})
    reference = verification.Reference(OnlyFloat32(), sample, [4, 4, 4], None, plan)
    np.testing.assert_array_equal(reference.with_other_rounding("y"), sample.columns)


@pytest.mark.parametrize("shape", [[1], [300], [2, 3], [41, 1600, 1408], [3, 4, 5, 6]])
def test_generated_sites_are_legal(shape: list[int]) -> None:
    sample = verification.generated_sample(shape, None, 3, 2, 0)
    assert sample.rows.dtype == np.int32
    assert len(np.unique(sample.rows, axis=0)) == len(sample.rows) == len(sample.columns)
    assert np.all(sample.rows[:, 1:] >= 0)
    assert np.all(sample.rows[:, 1:] < shape)
    assert set(sample.rows[:, 0]) == {0, 1}
    again = verification.generated_sample(shape, None, 3, 2, 0)
    np.testing.assert_array_equal(again.columns, sample.columns)


def test_generated_points_lie_in_and_out_of_range() -> None:
    voxelizer = Voxelizer([0.0, -40.0, -3.0, 70.4, 40.0, 1.0], [0.05, 0.05, 0.1])
    sample = verification.generated_sample(voxelizer.grid_shape(), voxelizer, 4, 2, 0)
    _, _, voxel = voxelizer(torch.from_numpy(sample.rows), torch.from_numpy(sample.columns))
    assert (voxel == -1).any()
    counts = torch.bincount(voxel[voxel >= 0].to(torch.int64))
    assert counts.max() > 1
