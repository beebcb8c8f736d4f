# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Open an exported model in ONNX Runtime with Voxgate's operators registered. Needs no torch."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnxruntime as ort
from google.protobuf.message import DecodeError

import voxgate_ops
from voxgate_ops.device import (
    CUDA_PROVIDER,
    Device,
    Obstacle,
    choose_device,
    provider_options,
)
from voxgate_ops.errors import LibraryMissingError, ModelError
from voxgate_ops.onnx_structure import parse_structure
from voxgate_ops.schemas import DOMAIN, VERSION

LIBRARY_VARIABLE = "VOXGATE_OPERATORS_LIBRARY"
_LIBRARY_SUFFIX = {"darwin": ".dylib", "win32": ".dll"}.get(sys.platform, ".so")
LIBRARY_NAME = f"libvoxgate_onnxruntime{_LIBRARY_SUFFIX}"
_ORT_LOG_FATAL = 4  # a bad frame raises; it need not be printed too


def operators_library() -> Path:
    """The custom-operator library: `$VOXGATE_OPERATORS_LIBRARY`, else the one installed beside us.

    Raises:
        LibraryMissingError: no file there.
    """
    named = os.environ.get(LIBRARY_VARIABLE)
    if named:
        library = Path(named)
        if not library.is_file():
            raise LibraryMissingError(
                f"the custom-operator library {library}, named by {LIBRARY_VARIABLE}, "
                "does not exist"
            )
        return library.resolve()
    # An editable install has two folders: the sources and what the build installed.
    candidates = [Path(folder) / LIBRARY_NAME for folder in voxgate_ops.__path__]
    for candidate in candidates:
        if candidate.is_file():
            return candidate.resolve()
    looked_for = ", ".join(str(candidate) for candidate in candidates)
    raise LibraryMissingError(
        f"the custom-operator library is missing: looked for {looked_for}. Install voxgate from a "
        f"wheel or build it, or set {LIBRARY_VARIABLE} to the library's path"
    )


@dataclass(frozen=True, slots=True)
class ModelFile:
    """An ONNX file that was checked, to open any number of sessions on.

    `weight_bytes` counts its constants, those kept in other files too. `device` is where its
    sessions run.
    """

    path: Path
    weight_bytes: int
    device: Device = Device()

    def open(
        self,
        *,
        threads: int | None = None,
        use_tf32: bool = False,
        config: Mapping[str, str] | None = None,
    ) -> ort.InferenceSession:
        """A new session; arguments and errors as of `open_session`."""
        if threads is not None and threads < 1:
            raise ValueError(f"threads is {threads}, expected at least 1 or None")
        providers: list[str | tuple[str, dict[str, str]]] = ["CPUExecutionProvider"]
        entries = dict(config or {})
        if self.device.index is not None:
            cuda = provider_options(self.device.index, use_tf32=use_tf32)
            providers.insert(0, (CUDA_PROVIDER, cuda))
            # Weights outside the arena: it could give nothing back that has one among it.
            entries.setdefault("session.use_device_allocator_for_initializers", "1")
        options = _session_options(threads, entries)
        try:
            session = ort.InferenceSession(
                os.fspath(self.path), sess_options=options, providers=providers, enable_fallback=0
            )
        except Exception as error:  # ONNX Runtime's exceptions share no base but this
            raise ModelError(f"{self.path} is refused by ONNX Runtime: {error}") from error
        if self.device.index is not None and CUDA_PROVIDER not in session.get_providers():
            raise ModelError(
                f"{self.path} cannot run on {self.device}: ONNX Runtime could not start its CUDA "
                "provider and says why on the standard error output"
            )
        return session


def check_model(path: str | os.PathLike[str], *, device: str = "auto") -> ModelFile:
    """Check what can be seen before ONNX Runtime opens the model at `path`.

    Raises:
        LibraryMissingError: the custom-operator library is missing.
        ModelError: the file is missing, no ONNX, truncated, keeps data outside its folder, or
            cannot run on the device asked for.
        ValueError: `device` is no legal value.
    """
    path = Path(path)
    chosen = choose_device(device, operators_library)
    model = _load(path)
    _check_version(model, path)
    _check_external_data(model, path)
    if isinstance(chosen, Obstacle):
        raise ModelError(f"{path} cannot run on {device!r}: {chosen.reason}")
    return ModelFile(path, sum(_bytes_of(tensor) for tensor in _tensors(model)), chosen)


def open_session(
    path: str | os.PathLike[str],
    *,
    device: str = "auto",
    threads: int | None = None,
    use_tf32: bool = False,
    config: Mapping[str, str] | None = None,
) -> ort.InferenceSession:
    """Open the model at `path` with the operators of domain `voxgate` registered.

    Args:
        path: an ONNX file. Data it keeps in other files must lie in the same folder or below it.
        device: `auto`, `cpu`, `cuda` or `cuda:N`. `auto` is the first GPU that CUDA shows, if all
            is there that it needs, else the CPU; the log says why.
        threads: intra-op threads; None leaves the choice to ONNX Runtime (one per core).
        use_tf32: let a GPU round the factors of float32 products to TF32's 10 bits of mantissa,
            which its tensor cores multiply. Without effect on a CPU.
        config: further session configuration entries, which the operators can read too.

    Raises:
        LibraryMissingError: the custom-operator library is missing or cannot be loaded.
        ModelError: the file is missing, no ONNX, truncated, refused by ONNX Runtime, keeps data
            outside its folder, or cannot run on the device asked for.
        ValueError: `device` or `threads` is no legal value.
    """
    file = check_model(path, device=device)
    return file.open(threads=threads, use_tf32=use_tf32, config=config)


def _session_options(threads: int | None, config: Mapping[str, str]) -> ort.SessionOptions:
    library = operators_library()
    options = ort.SessionOptions()
    options.log_severity_level = _ORT_LOG_FATAL
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.inter_op_num_threads = 1
    # A pattern is kept for every shape of the inputs, and hardly two frames have as many sites.
    options.enable_mem_pattern = False
    if threads is not None:
        options.intra_op_num_threads = threads
    for key, value in config.items():  # before the operators: they read it as they are registered
        options.add_session_config_entry(key, value)
    try:
        options.register_custom_ops_library(os.fspath(library))
    except Exception as error:
        raise LibraryMissingError(
            f"the custom-operator library {library} cannot be loaded: {error} "
            f"({LIBRARY_VARIABLE} names another one)"
        ) from error
    return options


def _load(path: Path) -> onnx.ModelProto:
    if not path.is_file():
        raise ModelError(f"{path} is not a file")
    try:
        model = parse_structure(path.read_bytes())
    except (OSError, DecodeError) as error:
        size = path.stat().st_size
        raise ModelError(f"{path} ({size} bytes) is not an ONNX model: {error}") from error
    if not model.graph.output:
        size = path.stat().st_size
        raise ModelError(f"{path} ({size} bytes) is not an ONNX model: it has no outputs")
    return model


def _check_version(model: onnx.ModelProto, path: Path) -> None:
    # ONNX Runtime does not look at the version of a custom domain.
    for opset in model.opset_import:
        if opset.domain == DOMAIN and opset.version != VERSION:
            raise ModelError(
                f"{path} uses version {opset.version} of the operators {DOMAIN!r}, "
                f"this Voxgate has version {VERSION}"
            )


def _check_external_data(model: onnx.ModelProto, path: Path) -> None:
    folder = path.parent.resolve()
    for tensor, location in external_data(model):
        target = (folder / location).resolve()
        if not target.is_relative_to(folder):
            raise ModelError(
                f"{path}: tensor {tensor!r} keeps its data in {location!r}, outside the "
                "model's folder"
            )
        if not target.is_file():
            raise ModelError(
                f"{path}: tensor {tensor!r} keeps its data in {location!r}, which is missing"
            )


def external_data(model: onnx.ModelProto) -> Iterator[tuple[str, str]]:
    """Every tensor whose data is in another file, by name, with that file as the model names it."""
    for tensor in _tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            # A reader takes the first or the last of several: each has to be a good one.
            locations = [entry.value for entry in tensor.external_data if entry.key == "location"]
            yield from ((tensor.name, location) for location in locations or [""])


def _bytes_of(tensor: onnx.TensorProto) -> int:
    try:
        itemsize = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    except KeyError:  # no type that ONNX knows: ONNX Runtime will say so
        return 0
    return math.prod(tensor.dims) * itemsize


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    yield from _graph_tensors(model.graph)
    for function in model.functions:
        yield from _node_tensors(function.node)


def _graph_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _node_tensors(graph.node)


def _node_tensors(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)
            if attribute.HasField("g"):
                yield from _graph_tensors(attribute.g)
            for subgraph in attribute.graphs:
                yield from _graph_tensors(subgraph)
