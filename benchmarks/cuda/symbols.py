# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Names of kernels as a reader knows them."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable
from itertools import accumulate

_TYPES = {
    "__nv_bfloat16": "bfloat16",
    "rulebook::BFloat16": "bfloat16",
    "__half": "half",
    "rulebook::Float16": "half",
}
# Of what a template's number means nothing to a reader: `(rulebook::Mode)1` is `1`.
_CAST = re.compile(r"\([\w:]+\)(?=\d)")


def demangle(names: Iterable[str]) -> dict[str, str]:
    """Full C++ name of each symbol, without the return type that templates have.

    Raises:
        RuntimeError: there is no c++filt (it comes with GCC's and LLVM's tools).
    """
    wanted = sorted(set(names))
    program = shutil.which("c++filt") or shutil.which("llvm-cxxfilt")
    if program is None:
        raise RuntimeError("no c++filt here: install binutils")
    done = subprocess.run(
        [program], input="\n".join(wanted), capture_output=True, text=True, check=True
    )
    full = (line.removeprefix("void ") for line in done.stdout.splitlines())
    return dict(zip(wanted, full, strict=True))


def base_name(full: str) -> str:
    """`rulebook::cuda::(anonymous namespace)::Pool<float>(…)` is `Pool`."""
    plain = full.replace("(anonymous namespace)::", "")
    return re.split(r"[<(]", plain, maxsplit=1)[0].rsplit("::", 1)[-1]


def short_name(full: str) -> str:
    """The same is `Pool<float>`."""
    plain = full.replace("(anonymous namespace)::", "")
    head = re.split(r"[<(]", plain, maxsplit=1)[0]
    rest = plain[len(head) :]
    if not rest.startswith("<"):
        return base_name(full)
    depths = accumulate((character == "<") - (character == ">") for character in rest)
    end = next(end for end, depth in enumerate(depths) if depth == 0)
    arguments = _CAST.sub("", rest[: end + 1])
    for name, word in _TYPES.items():
        arguments = arguments.replace(name, word)
    return base_name(full) + arguments.replace("rulebook::cuda::", "").replace("rulebook::", "")


def is_ours(full: str) -> bool:
    """Whether it is a kernel of this library and not of CUB, whose sort and sums it links."""
    return full.startswith("rulebook::")
