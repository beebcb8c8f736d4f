# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Prints everything pyproject.toml asks for, to build, run and test, as a requirements file.

It is installed before the project itself: the build links its tests with ONNX Runtime's library,
which is in one of these packages.
"""

import tomllib
from pathlib import Path

pyproject = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
project = pyproject["project"]
extras = project["optional-dependencies"].values()
for requirement in sum(extras, pyproject["build-system"]["requires"] + project["dependencies"]):
    print(requirement)
