# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Theoretical occupancy: the share of a multiprocessor's warps that a kernel can keep resident.

Limits: CUDA C++ Programming Guide, "Technical Specifications per Compute Capability"
(https://docs.nvidia.com/cuda/cuda-c-programming-guide/#features-and-technical-specifications).
How registers and shared memory are handed out: NVIDIA's own calculator, cuda_occupancy.h of the
toolkit, against which the tests hold this one.
"""

from __future__ import annotations

from dataclasses import dataclass

WARP = 32
_REGISTERS = 65536  # of a multiprocessor
_REGISTERS_AT_ONCE = 256  # of a warp
_PARTITIONS = 4  # of a multiprocessor, each with its part of the registers
_SHARED_AT_ONCE = 128  # bytes of a block
_SHARED_OF_SYSTEM = 1024  # bytes of each block that CUDA keeps for itself


@dataclass(frozen=True)
class Multiprocessor:
    """What one multiprocessor of a compute capability holds at once."""

    architecture: str  # as nvcc calls it
    warps: int
    blocks: int
    shared_bytes: int


MULTIPROCESSORS = {
    one.architecture: one
    for one in (
        Multiprocessor("sm_80", warps=64, blocks=32, shared_bytes=164 * 1024),
        Multiprocessor("sm_86", warps=48, blocks=16, shared_bytes=100 * 1024),
        Multiprocessor("sm_87", warps=48, blocks=16, shared_bytes=164 * 1024),
        Multiprocessor("sm_89", warps=48, blocks=24, shared_bytes=100 * 1024),
        Multiprocessor("sm_90", warps=64, blocks=32, shared_bytes=228 * 1024),
    )
}


@dataclass(frozen=True)
class Occupancy:
    """How many blocks fit, and which resource runs out first."""

    blocks: int
    share: float  # of the warps, 0 to 1
    limit: str  # "warps", "registers", "shared memory" or "blocks"


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def occupancy(on: Multiprocessor, threads: int, registers: int, shared_bytes: int) -> Occupancy:
    """Of blocks of `threads`, each with `registers`, and `shared_bytes`, static and dynamic.

    Raises:
        ValueError: a block of this kind does not fit at all.
    """
    warps = _round_up(threads, WARP) // WARP
    registers_of_warp = _round_up(registers * WARP, _REGISTERS_AT_ONCE)
    # A block must fit as if all partitions had as many of its warps; then warps are what counts.
    fits = registers_of_warp * _round_up(warps, _PARTITIONS) <= _REGISTERS
    warps_by_registers = _REGISTERS // _PARTITIONS // registers_of_warp * _PARTITIONS
    shared = _round_up(shared_bytes + _SHARED_OF_SYSTEM, _SHARED_AT_ONCE)
    limits = {
        "warps": on.warps // warps,
        "registers": warps_by_registers // warps if fits else 0,
        "shared memory": on.shared_bytes // shared,
        "blocks": on.blocks,
    }
    limit = min(limits, key=lambda name: limits[name])
    if limits[limit] == 0:
        raise ValueError(
            f"a block of {threads} threads, {registers} registers each, and {shared_bytes} bytes "
            f"of shared memory does not fit into a multiprocessor of {on.architecture}: {limit}"
        )
    return Occupancy(limits[limit], limits[limit] * warps / on.warps, limit)
