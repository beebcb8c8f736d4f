# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Peak resident memory of the calling process. Standard library only."""

from __future__ import annotations

import resource
from pathlib import Path

_STATUS = Path("/proc/self/status")


def peak_bytes() -> int:
    """The most memory this process has had resident, in bytes.

    Reads VmHWM where the kernel has it: ru_maxrss starts at the parent's size, because Linux hands
    it on through fork and exec.
    """
    if _STATUS.exists():
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
