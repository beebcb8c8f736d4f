# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""What the built libraries export and need."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

import voxgate_ops
from voxgate_ops.session import operators_library


def installed(pattern: str) -> Path:
    found = [path for folder in voxgate_ops.__path__ for path in Path(folder).glob(pattern)]
    assert found, f"no {pattern} in {list(voxgate_ops.__path__)}"
    return found[0]


def exported(library: Path) -> set[str]:
    with library.open("rb") as file:
        symbols = ELFFile(file).get_section_by_name(".dynsym")
        assert isinstance(symbols, SymbolTableSection)
        return {
            symbol.name
            for symbol in symbols.iter_symbols()
            if symbol["st_shndx"] != "SHN_UNDEF" and symbol["st_info"]["bind"] != "STB_LOCAL"
        }


def needed(library: Path) -> set[str]:
    with library.open("rb") as file:
        dynamic = ELFFile(file).get_section_by_name(".dynamic")
        assert isinstance(dynamic, DynamicSection)
        return {tag.needed for tag in dynamic.iter_tags("DT_NEEDED")}


SYSTEM = {"libc.so.6", "libm.so.6", "libstdc++.so.6", "libgcc_s.so.1", "libpthread.so.0"}


def test_the_operator_library_exports_its_functions_only() -> None:
    assert exported(operators_library()) == {
        "RegisterCustomOps",
        "VoxgateCudaDeviceCount",
        "VoxgateHasCuda",
        "VoxgateOperatorTimes",
    }


def test_the_operator_library_tells_of_its_gpus_without_a_driver_too() -> None:
    library = ctypes.CDLL(str(operators_library()))
    has_cuda, devices = library.VoxgateHasCuda(), library.VoxgateCudaDeviceCount()
    assert has_cuda in (0, 1)
    assert 0 <= devices <= 1024 * has_cuda


@pytest.mark.parametrize("pattern", ["libvoxgate_onnxruntime.so", "_native*.so"])
def test_libraries_need_nothing_but_the_system(pattern: str) -> None:
    # In particular not libonnxruntime, whose file name differs between its distributions.
    loaders = {name for name in needed(installed(pattern)) if name.startswith("ld-linux")}
    assert needed(installed(pattern)) - loaders <= SYSTEM
