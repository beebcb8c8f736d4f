// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Files and messages are little-endian, and their bytes are taken as the host's.
#pragma once

#if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the Voxgate client is for little-endian machines"
#endif
