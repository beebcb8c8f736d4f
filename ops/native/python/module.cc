// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <exception>
#include <string>
#include <vector>

#include "bindings.h"
#include "rulebook/error.h"
#include "rulebook/isa.h"

namespace nb = nanobind;

namespace voxgate {
namespace {

// The Python classes of the library's two error codes; they live as long as the interpreter.
struct ErrorClasses {
  PyObject* invalid_argument = nullptr;
  PyObject* limit_exceeded = nullptr;
};

PyObject* AddErrorClass(nb::module_& module, const char* name, const char* doc) {
  const std::string full_name = std::string("voxgate_ops._native.") + name;
  PyObject* type = PyErr_NewExceptionWithDoc(full_name.c_str(), doc, PyExc_ValueError, nullptr);
  if (type == nullptr) throw nb::python_error();
  module.attr(name) = nb::borrow(type);
  return type;
}

void TranslateError(const std::exception_ptr& thrown, void* payload) {
  const auto* classes = static_cast<const ErrorClasses*>(payload);
  try {
    std::rethrow_exception(thrown);
  } catch (const rulebook::Error& error) {
    PyObject* type = PyExc_RuntimeError;
    if (error.code() == rulebook::ErrorCode::kInvalidArgument) type = classes->invalid_argument;
    if (error.code() == rulebook::ErrorCode::kResourceExhausted) type = classes->limit_exceeded;
    PyErr_SetString(type, error.what());
  }
}

void BindErrors(nb::module_& module) {
  static ErrorClasses classes;
  classes.invalid_argument = AddErrorClass(
      module, "InvalidArgument", "A shape, attribute or value that the operator cannot accept.");
  classes.limit_exceeded = AddErrorClass(
      module, "LimitExceeded", "A legal request whose result would pass a limit of the library.");
  nb::register_exception_translator(TranslateError, &classes);
}

void BindIsa(nb::module_& module) {
  module.def(
      "current_isa", [] { return rulebook::ToString(rulebook::CurrentIsa()); },
      "The instruction set the kernels use: generic, avx2, avx512 or amx. VOXGATE_CPU_ISA names "
      "one.");
  module.def(
      "supported_isas",
      [] {
        std::vector<std::string> names;
        for (const rulebook::Isa isa : rulebook::SupportedIsas()) {
          names.emplace_back(rulebook::ToString(isa));
        }
        return names;
      },
      "The instruction sets this processor can run, generic first.");
}

}  // namespace
}  // namespace voxgate

NB_MODULE(_native, module) {
  module.doc() =
      "The rulebook library on numpy arrays. Arrays are C-contiguous and of exactly the documented "
      "type; `threads` 0 uses every core this process may run on. Every call releases the GIL.";
  voxgate::BindErrors(module);
  voxgate::BindIsa(module);
  voxgate::BindCoords(module);
  voxgate::BindRulebook(module);
  voxgate::BindConvolution(module);
  voxgate::BindPooling(module);
  voxgate::BindDense(module);
  voxgate::BindRows(module);
  voxgate::BindPoints(module);
  voxgate::BindIntake(module);
}
