# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""docs/cuda.md's tables: how they are made, and that they say what the build is."""

import os
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from benchmarks.context import ROOT
from benchmarks.cuda import frame_queue, kernel_table, page, ptxas, queue_log, roofline
from benchmarks.cuda.backbone_layers import Layer, backbone_layers, measure
from benchmarks.cuda.occupancy import MULTIPROCESSORS, occupancy
from benchmarks.cuda.symbols import base_name, demangle, is_ours, short_name
from benchmarks.sites import KITTI_SCAN, load_scan

BUILD = ROOT / "build" / "editable"
PAGE = ROOT / "docs" / "cuda.md"
AGAIN = "run: make cuda-docs"

POOL = (
    "_ZN8rulebook4cuda48_GLOBAL__N__62dc107f_10_pooling_cu_e86d01f8_345310PoolFramesI6__halfEEvPKT_"
    "llPKillNS_8PoolModeEPS4_"
)
# As nvcc 13.0.88 said it; `Plain` is a kernel that was to do with 32 registers.
TOLD = f"""\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '{POOL}' for 'sm_80'
ptxas info    : Function properties for {POOL}
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 32 registers, used 1 barriers, 16384 bytes smem, 416 bytes cmem[0]
ptxas info    : Compile time = 264.119 ms
ptxas info    : Overriding maximum register limit 256 for 'Plain' with  32 of maxrregcount option
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'Plain' for 'sm_80'
ptxas info    : Function properties for Plain
    312 bytes stack frame, 320 bytes spill stores, 408 bytes spill loads
ptxas info    : Used 32 registers, used 1 barriers, 312 bytes cumulative stack size
ptxas info    : Compile time = 55.671 ms
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'Plain' for 'sm_90'
ptxas info    : Function properties for Plain
    336 bytes stack frame, 332 bytes spill stores, 416 bytes spill loads
ptxas info    : Used 32 registers, used 1 barriers, 336 bytes cumulative stack size
ptxas info    : Compile time = 48.618 ms
"""


# How they are made --------------------------------------------------------------------------------


def test_what_ptxas_says_is_read() -> None:
    pool, spilling, plain = ptxas.parse(TOLD, "pooling.cu")
    assert (pool.architecture, pool.registers, pool.shared_bytes) == ("sm_80", 32, 16384)
    assert (pool.stack_bytes, pool.spill_stores, pool.spill_loads) == (0, 0, 0)
    assert spilling == ptxas.KernelUse("pooling.cu", "Plain", "sm_80", 32, 0, 312, 320, 408)
    assert plain == ptxas.KernelUse("pooling.cu", "Plain", "sm_90", 32, 0, 336, 332, 416)
    assert list(ptxas.parse("nvcc warning : nothing of kernels\n", "a.cu")) == []


def test_other_words_of_ptxas_are_refused() -> None:
    with pytest.raises(ValueError, match="a.cu: no registers or spills are told of Plain"):
        list(ptxas.parse("Compiling entry function 'Plain' for 'sm_80'\n", "a.cu"))


def test_names_are_short() -> None:
    (pool, *_) = ptxas.parse(TOLD, "pooling.cu")
    full = demangle([pool.name])[pool.name]
    assert full == (
        "rulebook::cuda::(anonymous namespace)::PoolFrames<__half>"
        "(__half const*, long, long, int const*, long, long, rulebook::PoolMode, __half*)"
    )
    assert (base_name(full), short_name(full)) == ("PoolFrames", "PoolFrames<half>")
    nested = "cub::N::Sort<cub::N::Hub<int, (cub::Order)0>, std::pair<int, int> >(int*)"
    assert base_name(nested) == "Sort"
    assert short_name(nested) == "Sort<cub::N::Hub<int, 0>, std::pair<int, int> >"
    assert short_name("rulebook::cuda::(anonymous namespace)::KeyRows(int const*)") == "KeyRows"


def test_the_queue_is_read() -> None:
    text = "fill\nlaunch 128 4096 1f00 /a folder/test\nwait\nfill\nlaunch 256 0 20 /b\n"
    launches, calls = queue_log.parse(text)
    assert calls == {"fill": 2, "wait": 1}
    assert launches == [
        queue_log.Launch(queue_log.Block(128, 4096), 0x1F00, "/a folder/test"),
        queue_log.Launch(queue_log.Block(256, 0), 0x20, "/b"),
    ]


# By hand, from the limits in the programming guide's table.
@pytest.mark.parametrize(
    ("architecture", "threads", "registers", "shared", "blocks", "share", "limit"),
    [
        ("sm_80", 256, 32, 0, 8, 1.0, "warps"),  # 8 warps of 64 each
        ("sm_87", 256, 32, 0, 6, 1.0, "warps"),  # of 48
        ("sm_90", 256, 33, 0, 6, 0.75, "registers"),  # 33 become 40: 12 warps in a quarter
        ("sm_80", 1024, 64, 0, 1, 0.5, "registers"),
        ("sm_90", 128, 255, 0, 2, 0.125, "registers"),
        ("sm_80", 32, 16, 0, 32, 0.5, "blocks"),
        ("sm_89", 32, 16, 0, 24, 0.5, "blocks"),
        ("sm_80", 128, 32, 40 * 1024, 4, 0.25, "shared memory"),  # 4 of 41 KiB in 164
        ("sm_80", 128, 32, 40 * 1024 + 1, 3, 0.1875, "shared memory"),
        ("sm_90", 256, 32, 227 * 1024, 1, 0.125, "shared memory"),  # the most a block may have
        ("sm_86", 256, 32, 99 * 1024, 1, 8 / 48, "shared memory"),
    ],
)
def test_occupancy_by_hand(
    architecture: str,
    threads: int,
    registers: int,
    shared: int,
    blocks: int,
    share: float,
    limit: str,
) -> None:
    found = occupancy(MULTIPROCESSORS[architecture], threads, registers, shared)
    assert (found.blocks, found.limit) == (blocks, limit)
    assert found.share == pytest.approx(share)


def test_a_block_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit .* of sm_86: shared memory"):
        occupancy(MULTIPROCESSORS["sm_86"], 256, 32, 100 * 1024)
    with pytest.raises(ValueError, match="does not fit .* of sm_90: registers"):
        occupancy(MULTIPROCESSORS["sm_90"], 1024, 128, 0)


# cuda_occupancy.h is host code: it takes the properties of any device.
NVIDIA_CALCULATOR = """
#include <cuda_occupancy.h>
#include <cstdio>
int main() {
  int major, minor, warps, threads, registers; size_t multiprocessor, shared;
  while (std::scanf("%d %d %d %zu %d %d %zu", &major, &minor, &warps, &multiprocessor, &threads,
                    &registers, &shared) == 7) {
    cudaOccDeviceProp device;
    device.computeMajor = major; device.computeMinor = minor;
    device.maxThreadsPerBlock = 1024; device.maxThreadsPerMultiprocessor = warps * 32;
    device.regsPerBlock = device.regsPerMultiprocessor = 65536; device.warpSize = 32;
    device.sharedMemPerBlock = 48 << 10; device.sharedMemPerMultiprocessor = multiprocessor;
    device.sharedMemPerBlockOptin = multiprocessor - 1024; device.reservedSharedMemPerBlock = 1024;
    device.numSms = 100;
    cudaOccFuncAttributes kernel;
    kernel.maxThreadsPerBlock = 1024; kernel.numRegs = registers; kernel.sharedSizeBytes = 0;
    kernel.partitionedGCConfig = PARTITIONED_GC_OFF;
    kernel.shmemLimitConfig = FUNC_SHMEM_LIMIT_OPTIN;
    kernel.maxDynamicSharedSizeBytes = multiprocessor - 1024; kernel.numBlockBarriers = 1;
    cudaOccDeviceState state; cudaOccResult found;
    if (cudaOccMaxActiveBlocksPerMultiprocessor(&found, &device, &kernel, &state, threads,
                                                shared) != CUDA_OCC_SUCCESS) return 1;
    std::printf("%d\\n", found.activeBlocksPerMultiprocessor);
  }
}
"""


def toolkit_include() -> Path:
    """The headers of a CUDA toolkit."""
    homes = [os.environ.get("CUDA_HOME", "/usr/local/cuda"), *Path("/usr/local").glob("cuda-*")]
    for home in homes:
        if (Path(home) / "include" / "cuda_occupancy.h").exists():
            return Path(home) / "include"
    pytest.skip("no CUDA toolkit here: cuda_occupancy.h not found")


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def test_occupancy_is_that_of_nvidias_calculator(tmp_path: Path) -> None:
    compiler = shutil.which("c++")
    include = toolkit_include()
    assert compiler is not None
    (tmp_path / "calculator.cc").write_text(NVIDIA_CALCULATOR)
    program = tmp_path / "calculator"
    subprocess.run(
        [compiler, "-w", f"-I{include}", tmp_path / "calculator.cc", "-o", program], check=True
    )
    asked = [
        (one, threads, registers, shared)
        for one in MULTIPROCESSORS.values()
        for threads in (32, 64, 96, 128, 256, 480, 1024)
        for registers in (16, 32, 33, 56, 64, 80, 96, 128, 168, 255)
        for shared in (0, 1, 1000, 4096, 13376, 33024, 44032, 60000, 98 * 1024)
    ]
    lines = [
        f"{one.architecture[3:-1]} {one.architecture[-1]} {one.warps} {one.shared_bytes} "
        f"{threads} {registers} {shared}\n"
        for one, threads, registers, shared in asked
    ]
    done = subprocess.run(
        [program], input="".join(lines), capture_output=True, text=True, check=True
    )
    expected = [int(line) for line in done.stdout.splitlines()]
    assert len(expected) == len(asked)
    for (one, threads, registers, shared), blocks in zip(asked, expected, strict=True):
        try:
            found = occupancy(one, threads, registers, shared).blocks
        except ValueError:
            found = 0
        assert found == blocks, (one.architecture, threads, registers, shared)


def test_layers_are_measured() -> None:
    # Offset 0 has a pair in row 1 alone, offset 1 in all rows, offset 2 in none.
    neighbors = np.array([[-1, 0, -1], [0, 1, 1], [-1, -1, -1]], np.int32)
    book = measure("book", True, 4, neighbors)
    assert (book.inputs, book.inputs_with_pairs, book.outputs) == (4, 2, 3)
    assert (book.volume, book.pairs) == (3, 4)
    assert book.rows_of_tiles == (64, 128, 256)  # two offsets of one tile each
    layer = Layer(book, 5, 7)
    assert layer.flops == 2 * 4 * 5 * 7
    beside = 2 * (3 * 5 * 7 + 3 * 7) + 4 * 9
    assert roofline.bytes_once(layer, roofline.FP16) == beside + 2 * 2 * 5
    assert roofline.bytes_gathered(layer, roofline.FP16) == beside + 2 * 4 * 5
    assert roofline.rulebook_bytes(book) == 4 * 9 + 16 * 4
    machine = roofline.Machine("machine", 1000.0, {"fp16": 70.0})
    bound = roofline.bound(layer, roofline.FP16, machine)
    assert bound.arithmetic == pytest.approx(4.0)
    assert bound.tiles == pytest.approx(4.0 * 128 / 4)
    assert bound.memory == pytest.approx((beside + 20) / 1000)
    assert (bound.least, bound.limit) == (bound.arithmetic, "arithmetic")


def uses_of(source: str, name: str, registers: tuple[int, int, int]) -> list[ptxas.KernelUse]:
    """On all architectures, with 1,000 bytes of shared memory."""
    return [
        ptxas.KernelUse(source, name, architecture, count, 1000, 0, 0, 0)
        for architecture, count in zip(kernel_table.ARCHITECTURES, registers, strict=True)
    ]


def test_kernels_are_tabled() -> None:
    tile = "rulebook::cuda::(anonymous namespace)::Tile<{}>(int)"
    pool = "rulebook::cuda::(anonymous namespace)::Pool<{}>(int)"
    uses = [
        *uses_of("convolution.cu", tile.format("__half, 64"), (128, 128, 64)),
        *uses_of("pooling.cu", pool.format("float"), (32, 32, 40)),
        *uses_of("pooling.cu", pool.format("__half"), (32, 32, 32)),
        *uses_of("algorithms.cu", "cub::Sort<int>(int*)", (50, 50, 50)),
    ]
    blocks = {use.name: {queue_log.Block(256, 0)} for use in uses[3:9]}
    blocks[uses[0].name] = {queue_log.Block(128, 4096)}
    table = kernel_table.render(uses, blocks, "13.0.88")
    assert table.startswith("nvcc 13.0.88. ")
    rows = [line for line in table.splitlines() if line.startswith("| `")]
    assert rows == [
        "| `Tile<half, 64>` | 1 | `convolution.cu` | 128 | 128 · 128 · 64 | 1,000 | 4,096 | 0 | 0 "
        "| 25 · 33 · 50 | registers |",
        "| `Pool` | 2 | `pooling.cu` | 256 | 32 · 32 · 32–40 | 1,000 | 0 | 0 | 0 "
        "| 100 · 100 · 75–100 | warps · warps · registers, warps |",
        "| `Sort` | 1 | `algorithms.cu` | – | 50 | 1,000 | – | 0 | 0 | – | – |",
    ]
    with pytest.raises(ValueError, match="no emulated test launches Tile<half, 64>"):
        kernel_table.render(uses, {use.name: blocks[use.name] for use in uses[3:9]}, "13.0.88")
    with pytest.raises(ValueError, match="sm_90 has other kernels: .*Pool<__half>"):
        kernel_table.render(uses[:8] + uses[9:], blocks, "13.0.88")


def test_calls_of_a_frame_are_tabled() -> None:
    calls = Counter({"launch": 20, "wait": 5, "copy": 6})
    (*_, row) = frame_queue.page_text(calls).splitlines()
    assert row == "| 20 | 0 | 6 | 0 | 0 | 5 | 31 | 93 |"


def test_a_page_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="the page needs the line"):
        page.between("# CUDA\n", "kernels")


# What the page says -------------------------------------------------------------------------------


def written_rows() -> dict[tuple[str, str], list[str]]:
    """Cells of the page's rows of kernels, by source and name."""
    _, table, _ = page.between(text(PAGE), "kernels")
    rows: dict[tuple[str, str], list[str]] = {}
    for line in table.splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) == len(kernel_table.HEAD) and cells[0].startswith("`"):
            rows[cells[2].strip("`"), cells[0].strip("`")] = cells
    assert len(rows) > 30
    return rows


def test_no_convolution_kernel_is_said_to_spill() -> None:
    stack, spilled = kernel_table.HEAD.index("stack"), kernel_table.HEAD.index("spilled")
    rows = {key: row for key, row in written_rows().items() if key[0].startswith("convolution")}
    assert len(rows) > 15
    assert {(row[stack], row[spilled]) for row in rows.values()} == {("0", "0")}


@pytest.fixture(scope="module")
def built() -> list[ptxas.KernelUse]:
    """What the last build's kernels use."""
    try:
        current = ptxas.is_current(BUILD, "cuda_check")
    except FileNotFoundError as error:
        pytest.skip(f"no CUDA kernels are built here: {error}")
    if not current:
        pytest.skip("the CUDA kernels are not built, or older than their sources: make test-native")
    return ptxas.read_build(BUILD, "cuda_check")


def test_no_convolution_kernel_spills(built: list[ptxas.KernelUse]) -> None:
    convolutions = [use for use in built if kernel_table.is_convolution(use)]
    assert {use.architecture for use in convolutions} == {"sm_80", "sm_90"}
    assert any("ConvolveByProducts" in use.name for use in convolutions)
    spilling = [
        f"{short_name(use.name)} on {use.architecture}: {use.stack_bytes} bytes of stack"
        for use in convolutions
        if use.spill_stores or use.spill_loads or use.stack_bytes
    ]
    assert spilling == []


def test_the_page_has_every_kernel(built: list[ptxas.KernelUse]) -> None:
    groups: dict[tuple[str, str], list[ptxas.KernelUse]] = {}
    for use in built:
        groups.setdefault((use.source, kernel_table.row_name(use)), []).append(use)
    listed = {key: int(row[1]) for key, row in written_rows().items()}
    expected = {key: kernel_table.instances(group) for key, group in groups.items()}
    assert listed == expected, AGAIN


def test_the_page_has_the_figures_of_the_build(built: list[ptxas.KernelUse]) -> None:
    version = ptxas.nvcc_version(BUILD)
    if f"nvcc {version}" not in text(PAGE):
        pytest.skip(f"the page's figures are from another nvcc than {version}")
    place = kernel_table.HEAD.index
    for (source, name), row in written_rows().items():
        for column, value in (
            ("registers", "registers"),
            ("shared, static", "shared_bytes"),
            ("stack", "stack_bytes"),
        ):
            for architecture in ("sm_80", "sm_90"):
                values = [
                    getattr(use, value)
                    for use in built
                    if (use.source, kernel_table.row_name(use), use.architecture)
                    == (source, name, architecture)
                ]
                told = row[place(column)].split(" · ")
                which = kernel_table.ARCHITECTURES.index(architecture) if len(told) > 1 else 0
                assert told[which] == kernel_table.span(values), (source, name, AGAIN)


def test_the_page_has_the_blocks_that_are_launched(built: list[ptxas.KernelUse]) -> None:
    try:
        blocks = queue_log.blocks_by_kernel(queue_log.read_build(BUILD))
    except FileNotFoundError as error:
        pytest.skip(str(error))
    ours = {use.name: (use.source, kernel_table.row_name(use)) for use in built}
    assert [name for name in ours if is_ours(name) and name not in blocks] == []
    threads: dict[tuple[str, str], set[int]] = {}
    for name, key in ours.items():
        threads.setdefault(key, set()).update(block.threads for block in blocks.get(name, ()))
    place = kernel_table.HEAD.index("threads")
    for key, row in written_rows().items():
        told = ", ".join(map(str, sorted(threads.get(key, ())))) or "–"
        assert row[place] == told, (key, AGAIN)


def test_the_page_has_the_roofline_of_the_scan() -> None:
    scan = load_scan(ROOT)
    if scan.name != KITTI_SCAN:
        pytest.skip(f"{scan.name}: VOXGATE_DATA names no folder that has it")
    _, table, _ = page.between(text(PAGE), "roofline")
    assert table == roofline.page_text(backbone_layers(scan), scan), AGAIN
