// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "rulebook/isa.h"

#include <algorithm>
#include <cstdlib>

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "rulebook/error.h"
#include "split_convolution.h"

namespace rulebook {
namespace {

constexpr const char* kVariable = "VOXGATE_CPU_ISA";

#if defined(__x86_64__) && defined(__linux__)
// Tile registers for bfloat16. Their state is large, so Linux hands it out only to a process that
// asks (Documentation/arch/x86/xstate.rst); its threads have it.
bool HasAmx() {
  constexpr unsigned kAmxBf16 = 1U << 22, kAmxTile = 1U << 24;
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  if (cpu::AmxSplitKernels() == nullptr) return false;
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) return false;
  if ((edx & kAmxBf16) == 0 || (edx & kAmxTile) == 0) return false;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}
#else
bool HasAmx() { return false; }
#endif

Isa ChooseIsa() {
  const std::vector<Isa> supported = SupportedIsas();
  const char* forced = std::getenv(kVariable);
  if (forced == nullptr || *forced == '\0') return supported.back();
  for (const Isa isa : {Isa::kGeneric, Isa::kAvx2, Isa::kAvx512, Isa::kAmx}) {
    if (std::string(forced) != ToString(isa)) continue;
    if (std::find(supported.begin(), supported.end(), isa) == supported.end()) {
      ThrowInvalid(kVariable, "=", forced, ": this processor has no ", forced,
                   "; the best it has is ", ToString(supported.back()));
    }
    return isa;
  }
  ThrowInvalid(kVariable, "=", forced, ": must be generic, avx2, avx512 or amx");
}

}  // namespace

Isa CurrentIsa() {
  static const Isa isa = ChooseIsa();
  return isa;
}

const char* ToString(Isa isa) {
  switch (isa) {
    case Isa::kAmx:
      return "amx";
    case Isa::kAvx512:
      return "avx512";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kGeneric:
      break;
  }
  return "generic";
}

std::vector<Isa> SupportedIsas() {
  std::vector<Isa> isas = {Isa::kGeneric};
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    isas.push_back(Isa::kAvx2);
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
      isas.push_back(Isa::kAvx512);
      static const bool has_amx = HasAmx();
      if (has_amx) isas.push_back(Isa::kAmx);
    }
  }
#endif
  return isas;
}

}  // namespace rulebook
