/* Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
 *
 * What the operators have counted in this process. Load the library with dlopen: the same file is
 * the same library, and the same counts, as the one ONNX Runtime has loaded. */
#ifndef VOXGATE_OPERATOR_TIMES_H_
#define VOXGATE_OPERATOR_TIMES_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The session configuration entry that names a session's model; set it before RegisterCustomOps.
 * Sessions without it count under "". Each name met costs memory, for as long as the process lives:
 * about 10 kB. */
#define VOXGATE_MODEL_CONFIG_ENTRY "voxgate.model"

/* One operator of one model on one device, all sessions of that model together. The strings live as
 * long as the process. */
typedef struct VoxgateOperatorTime {
  const char* model;
  const char* operator_name; /* as in the graph: "SparseConv" */
  const char* device;        /* "cpu" or "cuda" */
  uint64_t calls;            /* calls that failed count too */
  uint64_t nanoseconds;      /* wall time of those calls; on a GPU that of its stream, which is
                                added once it has passed and somebody asks or calls again */
} VoxgateOperatorTime;

/* Writes up to `capacity` rows and returns how many there are; ask again with more room when that
 * is larger. Operators of which no session ever had a node are left out. Any thread may call. */
__attribute__((visibility("default"))) size_t VoxgateOperatorTimes(VoxgateOperatorTime* rows,
                                                                   size_t capacity);

#ifdef __cplusplus
}
#endif

#endif /* VOXGATE_OPERATOR_TIMES_H_ */
