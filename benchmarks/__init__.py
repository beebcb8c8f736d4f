# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Benchmarks of the engine and the service: `python -m benchmarks --help`.

Needs a source checkout, a C++ compiler and, for the comparison, network access once (the peer's own
environment is created under `build/`). This package must import without any dependency, because the
peer's worker process runs from it with another interpreter.
"""
