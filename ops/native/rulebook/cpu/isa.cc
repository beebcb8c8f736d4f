// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "rulebook/isa.h"

#include <algorithm>
#include <cstdlib>

#include "rulebook/error.h"

namespace rulebook {
namespace {

constexpr const char* kVariable = "VOXGATE_CPU_ISA";

Isa ChooseIsa() {
  const std::vector<Isa> supported = SupportedIsas();
  const char* forced = std::getenv(kVariable);
  if (forced == nullptr || *forced == '\0') return supported.back();
  for (const Isa isa : {Isa::kGeneric, Isa::kAvx2, Isa::kAvx512}) {
    if (std::string(forced) != ToString(isa)) continue;
    if (std::find(supported.begin(), supported.end(), isa) == supported.end()) {
      ThrowInvalid(kVariable, "=", forced, ": this processor has no ", forced,
                   "; the best it has is ", ToString(supported.back()));
    }
    return isa;
  }
  ThrowInvalid(kVariable, "=", forced, ": must be generic, avx2 or avx512");
}

}  // namespace

Isa CurrentIsa() {
  static const Isa isa = ChooseIsa();
  return isa;
}

const char* ToString(Isa isa) {
  switch (isa) {
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
    }
  }
#endif
  return isas;
}

}  // namespace rulebook
