/* Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
 *
 * What the operator library can do on this machine. Load it with dlopen; any thread may call. */
#ifndef VOXGATE_OPERATOR_LIBRARY_H_
#define VOXGATE_OPERATOR_LIBRARY_H_

#ifdef __cplusplus
extern "C" {
#endif

/* 1 when the library has operators for ONNX Runtime's CUDA provider, else 0. */
__attribute__((visibility("default"))) int VoxgateHasCuda(void);

/* How many GPUs those could run on: 0 without them, without a driver or without a device. The first
 * call starts the driver, which can take a second. */
__attribute__((visibility("default"))) int VoxgateCudaDeviceCount(void);

#ifdef __cplusplus
}
#endif

#endif /* VOXGATE_OPERATOR_LIBRARY_H_ */
