# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The tests' server as a process of its own, to be killed: `killable_server.py PORT`."""

from __future__ import annotations

import sys

from tests.clients.conftest import FakeServer

if __name__ == "__main__":
    server = FakeServer()
    server.start(int(sys.argv[1]))
    print(server.port, flush=True)
    server.grpc_server.wait_for_termination()
