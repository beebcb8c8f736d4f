# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Prints what pyproject.toml asks for as a requirements file: of the extras named, or all there is.

Without arguments it is everything to build, run and test here; the extra `cuda`, CUDA's libraries
(gigabytes), only where there is a GPU. It is installed before the project itself: the build links
its tests with ONNX Runtime's library, which is in one of these packages.
"""

import subprocess
import sys
import tomllib
from pathlib import Path


def has_gpu() -> bool:
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, check=False)
    except OSError:
        return False
    return listed.returncode == 0


pyproject = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
project = pyproject["project"]
extras = project["optional-dependencies"]
wanted = project["dependencies"]
if sys.argv[1:]:
    chosen = sys.argv[1:]
else:
    chosen = [name for name in extras if name != "cuda" or has_gpu()]
    wanted = wanted + pyproject["build-system"]["requires"]
for requirement in wanted + [one for name in chosen for one in extras[name]]:
    print(requirement)
