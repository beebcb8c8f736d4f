// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Just enough of NVIDIA's driver library, and of an operator library built for CUDA, to be asked
// which GPUs there are. FAKE_GPUS is a list of NAME=CAPABILITY, as in "NVIDIA H100=90;Tesla T4=75".
#include <stdlib.h>
#include <string.h>

static const char* Gpus(void) {
  const char* gpus = getenv("FAKE_GPUS");
  return gpus ? gpus : "";
}

// The text of GPU `index`: "NAME=CAPABILITY;...".
static const char* Gpu(int index) {
  const char* gpu = Gpus();
  while (index-- > 0) gpu = strchr(gpu, ';') + 1;
  return gpu;
}

static int Number(const char* name, int otherwise) {
  const char* value = getenv(name);
  return value ? atoi(value) : otherwise;
}

static int Count(void) {
  int count = *Gpus() != 0;
  for (const char* at = Gpus(); *at; ++at) count += *at == ';';
  return count;
}

int cuInit(unsigned flags) { return flags ? 1 : Number("FAKE_INIT", 0); }

int cuGetErrorString(int error, const char** text) {
  *text = error == 100 ? "no CUDA-capable device is detected" : NULL;
  return 0;
}

int cuDriverGetVersion(int* version) {
  *version = Number("FAKE_VERSION", 13000);
  return 0;
}

int cuDeviceGetCount(int* count) {
  *count = Count();
  return 0;
}

int cuDeviceGet(int* device, int index) {
  *device = index;
  return 0;
}

int cuDeviceGetName(char* name, int size, int device) {
  const char* gpu = Gpu(device);
  const int length = (int)(strchr(gpu, '=') - gpu);
  if (length >= size) return 1;
  memcpy(name, gpu, length);
  name[length] = 0;
  return 0;
}

int cuDeviceGetAttribute(int* value, int attribute, int device) {
  const int capability = atoi(strchr(Gpu(device), '=') + 1);
  if (attribute != 75 && attribute != 76) return 1;
  *value = attribute == 75 ? capability / 10 : capability % 10;
  return 0;
}

int cuDeviceTotalMem_v2(size_t* bytes, int device) {
  (void)device;
  *bytes = (size_t)80 << 30;
  return 0;
}

int VoxgateHasCuda(void) { return Number("FAKE_OPERATORS", 1); }

int VoxgateCudaDeviceCount(void) { return Number("FAKE_RUNTIME_GPUS", Count()); }
