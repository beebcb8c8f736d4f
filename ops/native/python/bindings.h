// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Each family of operators adds its functions to the module `voxgate_ops._native`.
#pragma once

#include <nanobind/nanobind.h>

namespace voxgate {

void BindCoords(nanobind::module_& module);
void BindRulebook(nanobind::module_& module);
void BindConvolution(nanobind::module_& module);
void BindPooling(nanobind::module_& module);
void BindDense(nanobind::module_& module);
void BindRows(nanobind::module_& module);
void BindPoints(nanobind::module_& module);
void BindIntake(nanobind::module_& module);

}  // namespace voxgate
