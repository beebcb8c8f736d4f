# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""What every implementation of the operators must pass, against oracles that share no code with it.

A test file derives from these classes and names an implementation as `ops`.
"""
