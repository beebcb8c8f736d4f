// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "rulebook/intake.h"

#include <nanobind/stl/vector.h>

#include "arrays.h"
#include "bindings.h"
#include "threads.h"

namespace voxgate {
namespace {

using rulebook::Device;

// Rows of `row_bytes` that `data` holds, which must be whole ones.
int64_t CountRows(const Array<uint8_t>& data, int64_t row_bytes) {
  Expect(data, "data", {kAny});
  if (Size(data, 0) % row_bytes != 0) {
    rulebook::ThrowInvalid("data: expected a multiple of ", row_bytes, " bytes, got ",
                           Size(data, 0));
  }
  return Size(data, 0) / row_bytes;
}

nb::tuple ReadSites(const Array<uint8_t>& data, int index_bytes,
                    const std::vector<int64_t>& spatial_shape) {
  const rulebook::SpatialShape shape = ToPerAxis(spatial_shape, "spatial_shape");
  if (index_bytes != 2 && index_bytes != 4) {
    rulebook::ThrowInvalid("index_bytes: expected 2 or 4, got ", index_bytes);
  }
  const auto width = static_cast<rulebook::IndexWidth>(index_bytes);
  const int64_t rows = CountRows(data, int64_t{shape.axes} * index_bytes);
  Output<int32_t> coords({rows, 1 + shape.axes});
  bool canonical = false;
  RunReleased(1, [&](rulebook::CpuContext& context) {
    rulebook::ReadSites(data.data(), width, rows, shape.axes, 0, coords.data());
    canonical =
        rulebook::IsCanonical<Device::kCpu>(context, {coords.data(), rows, shape.axes}, shape);
  });
  return nb::make_tuple(coords.Release(), canonical);
}

nb::tuple ReadFloats(const Array<uint8_t>& data, int64_t columns) {
  if (columns < 1) rulebook::ThrowInvalid("columns: expected at least 1, got ", columns);
  const int64_t rows = CountRows(data, columns * static_cast<int64_t>(sizeof(float)));
  Output<float> values({rows, columns});
  int64_t first = -1;
  {
    nb::gil_scoped_release released;
    first = rulebook::ReadFloats(data.data(), rows * columns, values.data());
  }
  return nb::make_tuple(values.Release(), first);
}

}  // namespace

void BindIntake(nb::module_& module) {
  module.def("read_sites", &ReadSites, nb::arg("data"), nb::arg("index_bytes"),
             nb::arg("spatial_shape"),
             "int32 [N, 1+D] of batch index 0, every site inside the grid, and whether they are in "
             "canonical order.");
  module.def("read_floats", &ReadFloats, nb::arg("data"), nb::arg("columns"),
             "float32 [N, columns], and the flat index of the first value that is not finite (-1: "
             "all are).");
}

}  // namespace voxgate
