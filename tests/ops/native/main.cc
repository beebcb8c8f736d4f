// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "check.h"

int main() { return check::RunTests(); }
