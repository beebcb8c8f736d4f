# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The tables of docs/cuda.md: `make cuda-docs`, or one of them, `python -m benchmarks.cuda --help`.

Everything here is read from the compiler, from the emulator or computed. Nothing runs on a GPU.
"""
