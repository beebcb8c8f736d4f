#!/bin/sh
# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#
# record_ptxas.sh NVCC ARGUMENTS… -o OBJECT: compiles, and writes what ptxas tells of each kernel (registers,
# shared memory, spills) to OBJECT.ptxas. What else the compiler says is said as ever.
object=
before=
for word; do
  [ "$before" = -o ] && object=$word
  before=$word
done
if [ -z "$object" ]; then
  exec "$@"
fi
"$@" -Xptxas -v 2>"$object.ptxas"
status=$?
grep -v -e '^ptxas info ' -e '^    [0-9]* bytes stack frame' "$object.ptxas" >&2
exit $status
