# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Modules against torch's dense layers, their gradients, and what layers share."""

from __future__ import annotations

import pickle
import re
from collections import Counter, OrderedDict
from enum import Enum
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import voxgate_ops.nn as spconv
from voxgate_ops import torch_ops
from voxgate_ops.nn.functional import sparse_add

SHAPE = [6, 7, 8]


def make_tensor(
    channels: int = 4,
    *,
    shape: list[int] | None = None,
    density: float = 0.3,
    shuffle: bool = False,
    seed: int = 0,
) -> spconv.SparseConvTensor:
    """float64, two frames."""
    shape = SHAPE if shape is None else shape
    generator = torch.Generator().manual_seed(seed)
    indices = (torch.rand([2, *shape], generator=generator) < density).nonzero().int()
    features = torch.randn(len(indices), channels, dtype=torch.float64, generator=generator)
    if shuffle:
        order = torch.randperm(len(indices), generator=generator)
        indices, features = indices[order], features[order]
    return spconv.SparseConvTensor(features, indices, shape, 2)


def at_sites(dense: Tensor, indices: Tensor) -> Tensor:
    return dense.movedim(1, -1)[tuple(indices.long().T)]


def dense_weight(layer: spconv.SparseConvolution) -> Tensor:
    """KRSC as torch's [O, I, *kernel]."""
    return layer.weight.movedim(-1, 1)


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("grad", [False, True])
def test_submanifold(shuffle: bool, grad: bool) -> None:
    x = make_tensor(shuffle=shuffle)
    layer = spconv.SubMConv3d(4, 6, (3, 1, 5), dilation=(2, 1, 1), groups=2).double()
    with torch.set_grad_enabled(grad):
        y = layer(x)
    assert y.features.requires_grad is grad
    assert torch.equal(y.indices, x.indices)  # row for row
    dense = F.conv3d(
        x.dense(), dense_weight(layer), layer.bias, padding=(2, 0, 2), dilation=(2, 1, 1), groups=2
    )
    torch.testing.assert_close(y.features, at_sites(dense, x.indices))


@pytest.mark.parametrize("shuffle", [False, True])
def test_regular_and_inverse(shuffle: bool) -> None:
    """The inverse comes back to the input's sites, row for row, by the dense transpose."""
    x = make_tensor(shuffle=shuffle)
    down = spconv.SparseConv3d(4, 5, 3, 2, 1, bias=False, indice_key="down").double()
    up = spconv.SparseInverseConv3d(5, 3, 3, "down", bias=False).double()
    y = down(x)
    dense = F.conv3d(x.dense(), dense_weight(down), stride=2, padding=1)
    assert y.spatial_shape == list(dense.shape[2:]) == [3, 4, 4]
    torch.testing.assert_close(y.dense(), dense * (y.dense().abs().sum(1, keepdim=True) > 0))
    z = up(y)
    assert torch.equal(z.indices, x.indices)
    assert z.spatial_shape == x.spatial_shape
    back = F.conv_transpose3d(
        y.dense(), dense_weight(up).transpose(0, 1), stride=2, padding=1, output_padding=(1, 0, 1)
    )
    torch.testing.assert_close(z.features, at_sites(back, x.indices))


def test_transposed() -> None:
    x = make_tensor()
    layer = spconv.SparseConvTranspose3d(4, 3, 3, 2, 1, bias=False, output_padding=(1, 0, 1))
    y = layer.double()(x)
    dense = F.conv_transpose3d(
        x.dense(),
        dense_weight(layer).transpose(0, 1),
        stride=2,
        padding=1,
        output_padding=(1, 0, 1),
    )
    assert y.spatial_shape == list(dense.shape[2:])
    torch.testing.assert_close(y.dense(), dense)


@pytest.mark.parametrize("ndim", [1, 2, 3, 4])
def test_every_number_of_axes(ndim: int) -> None:
    """A small U of layers: shapes, sites and gradients at D = 1 to 4."""
    x = make_tensor(2, shape=[5, 4, 3, 3][:ndim], shuffle=True)
    layers = [
        getattr(spconv, f"SubMConv{ndim}d")(2, 3, 3, indice_key="s"),
        getattr(spconv, f"SparseConv{ndim}d")(3, 4, 3, 2, 1, indice_key="d"),
        getattr(spconv, f"SparseInverseConv{ndim}d")(4, 3, 3, indice_key="d"),
        getattr(spconv, f"SparseMaxPool{ndim}d")(2),
        getattr(spconv, f"SparseConvTranspose{ndim}d")(3, 2, 2, 2),
        getattr(spconv, f"SparseAvgPool{ndim}d")(3, 1, 1),
    ]
    network = spconv.SparseSequential(*layers).double()
    y = network(x)
    y.features.sum().backward()
    assert all(p.grad is not None for p in network.parameters())
    with torch.no_grad():
        torch.testing.assert_close(network(x).features, y.features)


def test_pooling() -> None:
    x = make_tensor(shape=[6, 8])
    sites = (x.replace_feature(torch.ones_like(x.features)).dense()[:, :1] > 0).double()
    low = x.dense().masked_fill(sites == 0, float("-inf"))
    largest = spconv.SparseMaxPool2d(2)(x)
    torch.testing.assert_close(largest.features, at_sites(F.max_pool2d(low, 2), largest.indices))
    mean = spconv.SparseAvgPool2d(3, 2, 1)(x)
    ones = torch.ones(4, 1, 3, 3, dtype=torch.float64)
    total = F.conv2d(x.dense(), ones, stride=2, padding=1, groups=4)
    count = F.conv2d(sites, ones[:1], stride=2, padding=1)
    expected = at_sites(total, mean.indices) / at_sites(count, mean.indices)
    torch.testing.assert_close(mean.features, expected)


def test_global_pooling_of_shuffled_rows() -> None:
    x = make_tensor(shuffle=True)
    for frame in range(2):
        rows = x.features[x.indices[:, 0] == frame]
        torch.testing.assert_close(spconv.SparseGlobalMaxPool()(x)[frame], rows.amax(0))
        torch.testing.assert_close(spconv.SparseGlobalAvgPool()(x)[frame], rows.mean(0))


def test_gradcheck() -> None:
    x = make_tensor(1, shape=[3, 4], shuffle=True)
    network = spconv.SparseSequential(
        spconv.SubMConv2d(1, 2, 3, indice_key="s"),
        nn.Sigmoid(),
        spconv.SparseConv2d(2, 2, 3, 2, 1, indice_key="d"),
        nn.BatchNorm1d(2),
        spconv.SparseInverseConv2d(2, 2, 3, indice_key="d"),
        spconv.SparseMaxPool2d(2),
        spconv.SparseConvTranspose2d(2, 2, 2, 2, groups=2),
        spconv.ToDense(),
    ).double()
    names = [name for name, _ in network.named_parameters()]

    def run(features: Tensor, *parameters: Tensor) -> Any:
        state = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(network, state, (x.replace_feature(features),))

    values = [p.detach().clone().requires_grad_() for p in network.parameters()]
    features = x.features.clone().requires_grad_()
    # Random directions: every layer is checked entry by entry in test_reference_gradients.py.
    assert torch.autograd.gradcheck(run, (features, *values), fast_mode=True)


def test_permuting_rows_permutes_outputs_bit_for_bit() -> None:
    x = make_tensor(8, seed=3)
    x = x.replace_feature(x.features.float())
    network = spconv.SparseSequential(
        spconv.SubMConv3d(8, 16, 3, indice_key="s"),
        nn.ReLU(),
        spconv.SparseConv3d(16, 16, 3, 2, 1, indice_key="d"),
        spconv.SparseInverseConv3d(16, 8, 3, indice_key="d"),
        spconv.SubMConv3d(8, 8, 3, indice_key="s"),
    )
    order = torch.randperm(len(x.indices), generator=torch.Generator().manual_seed(1))
    shuffled = spconv.SparseConvTensor(x.features[order], x.indices[order], SHAPE, 2)
    with torch.no_grad():
        straight, permuted = network(x), network(shuffled)
    assert torch.equal(permuted.features, straight.features[order])


@pytest.fixture
def rulebooks(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts the operators that layers call."""
    calls: Counter[str] = Counter()
    run = torch_ops.call

    def count(name: str, *args: Any) -> Any:
        calls[name] += 1
        return run(name, *args)

    monkeypatch.setattr(torch_ops, "call", count)
    return calls


@pytest.mark.parametrize("keys", [("a", "a", "b", "a"), (None,) * 4, ("a", "b", "c", "d")])
def test_layers_on_the_same_sites_share_rulebooks(
    rulebooks: Counter[str], keys: tuple[str | None, ...]
) -> None:
    x = make_tensor(2)
    first = spconv.SubMConv3d(2, 2, 3, indice_key=keys[0]).double()
    second = spconv.SubMConv3d(2, 2, 3, indice_key=keys[1]).double()
    down = spconv.SparseConv3d(2, 2, 3, 2, 1, indice_key=keys[2]).double()
    last = spconv.SubMConv3d(2, 2, 3, indice_key=keys[3]).double()
    y = second(first(x).replace_feature(x.features * 2))
    down(y)
    last(y)
    assert rulebooks["submanifold_rulebook"] == 1
    assert rulebooks["sparse_rulebook"] == 1
    assert rulebooks["sort_sites"] == 1


def test_inverse_needs_its_pair() -> None:
    x = make_tensor(2)
    up = spconv.SparseInverseConv3d(2, 2, 3, indice_key="down").double()
    with pytest.raises(ValueError, match="'down' is not among") as error:
        up(spconv.SubMConv3d(2, 2, 3, indice_key="other").double()(x))
    assert "other" in str(error.value)
    with pytest.raises(ValueError, match="submanifold"):
        up(spconv.SubMConv3d(2, 2, 3, indice_key="down").double()(x))
    y = spconv.SparseConv3d(2, 2, 3, 2, 1, indice_key="down").double()(x)
    with pytest.raises(ValueError, match="kernel_size"):
        spconv.SparseInverseConv3d(2, 2, 5, indice_key="down").double()(y)
    with pytest.raises(ValueError, match="spatial_shape"):
        up(spconv.SparseMaxPool3d(2)(y))
    with pytest.raises(ValueError, match="sites"):
        up(y.select_by_index(torch.arange(3)).derive(y.features[:3], indice_dict=y.indice_dict))


def test_keys_are_not_shared_by_different_layers() -> None:
    x = make_tensor(2)
    y = spconv.SubMConv3d(2, 2, 3, indice_key="a").double()(x)
    with pytest.raises(ValueError, match="differ"):
        spconv.SubMConv3d(2, 2, 5, indice_key="a").double()(y)
    with pytest.raises(ValueError, match="taken"):
        spconv.SparseConv3d(2, 2, 3, indice_key="a").double()(y)
    assert "a" not in x.indice_dict  # the input is as it was
    data = y.find_indice_pair("a")
    assert data is not None
    assert (data.ksize, data.is_subm, data.spatial_shape) == ([3, 3, 3], True, SHAPE)
    assert y.find_indice_pair(None) is None


def test_pooling_can_be_inverted() -> None:
    x = make_tensor(2, shuffle=True)
    y = spconv.SparseMaxPool3d(2, indice_key="pool")(x)
    z = spconv.SparseInverseConv3d(2, 5, 2, indice_key="pool").double()(y)
    assert torch.equal(z.indices, x.indices)


def test_one_cell_kernel_is_a_product() -> None:
    """As in spconv 2.3: `features @ weight.view(I, O)`, rows in the input's order."""
    x = make_tensor(4, shuffle=True)
    layer = spconv.SparseConv3d(4, 3, 1).double()
    y = layer(x)
    assert torch.equal(y.indices, x.indices)
    torch.testing.assert_close(y.features, x.features @ layer.weight.reshape(4, 3) + layer.bias)
    by_hand = spconv.SubMConv1d(2, 3, 1, bias=False).double()
    by_hand.load_state_dict({"weight": torch.arange(6.0).reshape(3, 1, 2)})
    one = torch.tensor([[10.0, 1.0]], dtype=torch.float64)
    site = spconv.SparseConvTensor(one, torch.zeros(1, 2, dtype=torch.int32), [4], 1)
    assert by_hand(site).features.tolist() == [[3.0, 14.0, 25.0]]


@pytest.mark.parametrize(
    "build",
    [
        lambda: spconv.SubMConv2d(4, 6, 1),
        lambda: spconv.SubMConv2d(4, 6, (3, 1), groups=2),
        lambda: spconv.SparseConv2d(4, 6, 1, 2),
        lambda: spconv.SubMConv2d(4, 6, 1, groups=2),
        lambda: spconv.SparseInverseConv2d(4, 6, 1, "d"),
    ],
)
def test_operator_weight(build: Any) -> None:
    """What is set is what the operator gets, whatever the layer's own layout."""
    layer = build()
    weight = torch.randn(layer.operator_weight().shape, generator=torch.Generator().manual_seed(0))
    layer.set_operator_weight(weight)
    assert torch.equal(layer.operator_weight(), weight)
    with pytest.raises(ValueError, match="expected shape"):
        layer.set_operator_weight(weight[..., 1:])


class Activation(Enum):
    """Named as spconv's `tv.gemm.Activation`."""

    None_ = 0
    ReLU = 1
    Sigmoid = 2
    LeakyReLU = 3


@pytest.mark.parametrize(
    ("act_type", "expected"),
    [
        (None, lambda x: x),
        (Activation.None_, lambda x: x),
        (Activation.ReLU, F.relu),
        ("sigmoid", torch.sigmoid),
        (Activation.LeakyReLU, lambda x: F.leaky_relu(x, 0.2)),
    ],
)
def test_fused_activation_and_residual(act_type: Any, expected: Any) -> None:
    x = make_tensor(3)
    plain = spconv.SparseConvolution(3, 3, 3, 3, subm=True).double()
    fused = spconv.SparseConvolution(
        3, 3, 3, 3, subm=True, act_type=act_type, act_alpha=0.2
    ).double()
    fused.load_state_dict(plain.state_dict())
    torch.testing.assert_close(
        fused(x, add_input=x).features, expected(plain(x).features + x.features)
    )


def test_voxel_count_is_the_largest_seen() -> None:
    layer = spconv.SparseConv3d(4, 4, 3, 2, 1, record_voxel_count=True).double()
    sizes = [len(layer(make_tensor(density=density)).indices) for density in (0.05, 0.5, 0.1)]
    assert layer.get_max_num_voxels() is not None
    assert layer.get_max_num_voxels().tolist() == [max(sizes)]  # type: ignore[union-attr]


@pytest.mark.parametrize("training", [True, False])
def test_no_sites(training: bool) -> None:
    x = make_tensor(4, density=0.0)
    network = spconv.SparseSequential(
        spconv.SubMConv3d(4, 6, 3),
        nn.BatchNorm1d(6),
        nn.ReLU(),
        spconv.SparseConv3d(6, 5, 3, 2, 1, indice_key="d"),
        spconv.SparseInverseConv3d(5, 4, 3, indice_key="d"),
        nn.Linear(4, 3),
    ).double()
    y = network.train(training)(x)
    assert y.features.shape == (0, 3)
    assert y.dense().shape == (2, 3, *SHAPE)
    assert spconv.SparseGlobalMaxPool()(y).abs().sum() == 0


def test_sequential() -> None:
    network = spconv.SparseSequential(
        OrderedDict(conv=spconv.SubMConv3d(4, 4, 3), relu=nn.ReLU()), last=spconv.ToDense()
    )
    network.add(nn.Identity())
    assert list(dict(network.named_children())) == ["conv", "relu", "last", "3"]
    assert len(network) == 4
    assert isinstance(network[1], nn.ReLU)
    assert network[-1] is network[3]
    with pytest.raises(IndexError):
        network[4]
    with pytest.raises(ValueError, match="conv"):
        network.add(nn.Identity(), "conv")
    spconv.assign_name_for_sparse_modules(network)
    assert network[0]._sparse_unique_name == "conv"
    assert network.double()(make_tensor()).shape == (2, 4, *SHAPE)


def test_modules_on_sparse_tensors() -> None:
    x = make_tensor()
    assert torch.equal(spconv.SparseReLU()(x).features, x.features.relu())
    norm = spconv.SparseBatchNorm(4).double()
    torch.testing.assert_close(norm(x).features.mean(0), torch.zeros(4, dtype=torch.float64))
    assert torch.equal(spconv.SparseReLU()(x.features), x.features.relu())
    branches = spconv.ConcatTable().add(spconv.SparseIdentity()).add(spconv.Identity())
    assert torch.equal(spconv.AddTable()(branches(x)).features, 2 * x.features)
    assert spconv.JoinTable()(branches(x)).features.shape[1] == 8


def test_sparse_add() -> None:
    a, b = make_tensor(shuffle=True), make_tensor(seed=5, shuffle=True)
    total = sparse_add(a, b, a)
    torch.testing.assert_close(total.dense(), 2 * a.dense() + b.dense())
    same = sparse_add(a, a.minus())
    assert torch.equal(same.indices, a.indices)
    with pytest.raises(ValueError, match="channels 4 and 2"):
        sparse_add(a, make_tensor(2))
    with pytest.raises(ValueError, match="shapes"):
        sparse_add(a, make_tensor(shape=[7, 7, 8]))


def test_tensor() -> None:
    x = make_tensor(shuffle=True)
    assert x.spatial_size == 6 * 7 * 8
    assert x.sparity == len(x.indices) / (2 * x.spatial_size)
    assert x.dense(channels_first=False).shape == (2, *SHAPE, 4)
    again = spconv.SparseConvTensor.from_dense(x.dense(channels_first=False))
    torch.testing.assert_close(again.dense(), x.dense())
    assert torch.equal((x + x.features).features, (x + x).features)
    with pytest.raises(ValueError, match="replace_feature"):
        x.features = x.features  # noqa: PLW0127 (the setter is what is tested)
    kept = x.select_by_index(x.features[:, 0] > 0)
    assert (kept.features[:, 0] > 0).all()
    copied = x.shadow_copy()
    assert copied.features is x.features
    assert "SparseConvTensor" in repr(x)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"features": torch.zeros(3)}, "features"),
        ({"features": torch.zeros(3, 1)}, "3 rows"),
        ({"indices": torch.zeros(2, 3, dtype=torch.int32)}, "[2, 3]"),
        ({"indices": torch.zeros(2, 4, dtype=torch.int64)}, "int64"),
        ({"batch_size": 0}, "batch_size 0"),
    ],
)
def test_refused_tensors(change: dict[str, Any], part: str) -> None:
    usual = {
        "features": torch.zeros(2, 1),
        "indices": torch.zeros(2, 4, dtype=torch.int32),
        "spatial_shape": SHAPE,
        "batch_size": 1,
    }
    with pytest.raises(ValueError, match=re.escape(part)):
        spconv.SparseConvTensor(**(usual | change))


def test_layers_refuse_what_does_not_fit() -> None:
    layer = spconv.SubMConv3d(4, 4, 3)
    with pytest.raises(ValueError, match="5 channels"):
        layer(make_tensor(5))
    with pytest.raises(ValueError, match="2 axes"):
        layer(make_tensor(4, shape=[5, 5]))
    twice = torch.zeros(2, 4, dtype=torch.int32)
    with pytest.raises(ValueError, match="0"):
        layer(spconv.SparseConvTensor(torch.zeros(2, 4), twice, SHAPE, 1))
    with pytest.raises(ValueError, match="output shape"):
        spconv.SparseConv3d(4, 4, 9).double()(make_tensor())


def test_modules_can_be_pickled() -> None:
    x = make_tensor()
    layer = spconv.SparseConv3d(4, 4, 3, 2, 1).double()
    assert torch.equal(pickle.loads(pickle.dumps(layer))(x).features, layer(x).features)


def test_export_shares_rulebooks_by_sites() -> None:
    """Five layers, three kinds of rulebook, whatever the keys; any number of sites."""

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = spconv.SparseSequential(
                spconv.SubMConv3d(4, 8, 3, indice_key="a"),
                nn.ReLU(),
                spconv.SubMConv3d(8, 8, 3, indice_key="b"),
                spconv.SparseConv3d(8, 8, 3, 2, 1, indice_key="d"),
                spconv.SparseInverseConv3d(8, 4, 3, indice_key="d"),
                spconv.SubMConv3d(4, 4, 3),
            )

        def forward(self, coords: Tensor, features: Tensor, batch_size: int) -> Any:
            y = self.body(spconv.SparseConvTensor(features, coords, SHAPE, batch_size))
            return y.features, spconv.SparseGlobalAvgPool()(y)

    x, dynamic = make_tensor(), torch.export.Dim.DYNAMIC
    network = Network().eval()
    program = torch.export.export(
        network,
        (x.indices, x.features.float(), 2),
        dynamic_shapes={"coords": {0: dynamic}, "features": {0: dynamic}, "batch_size": dynamic},
    )
    targets = Counter(str(n.target) for n in program.graph.nodes if "rulebook" in str(n.target))
    assert targets == {
        f"voxgate.{kind}_rulebook.default": 1 for kind in ("submanifold", "sparse", "inverse")
    }
    for density in (0.0, 0.6):
        other = make_tensor(density=density, seed=9)
        with torch.no_grad():
            expected = network(other.indices, other.features.float(), 2)
        for a, b in zip(
            program.module()(other.indices, other.features.float(), 2), expected, strict=True
        ):
            torch.testing.assert_close(a, b)
