// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "rulebook/coords.h"

#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "arrays.h"
#include "bindings.h"
#include "threads.h"

namespace voxgate {
namespace {

using rulebook::CoordsView;
using rulebook::Device;

constexpr std::array<std::pair<std::string_view, rulebook::Duplicates>, 2> kDuplicates{{
    {"error", rulebook::Duplicates::kError},
    {"first", rulebook::Duplicates::kFirst},
}};

nb::tuple SortSites(const Array<int32_t>& coords, const std::vector<int64_t>& spatial_shape,
                    const std::string& duplicates, int threads) {
  const rulebook::SpatialShape shape = ToPerAxis(spatial_shape, "spatial_shape");
  const CoordsView sites = ToCoords(coords, shape.axes);
  const rulebook::Duplicates policy = Choose(duplicates, "duplicates", kDuplicates);
  Output<int32_t> sorted;
  Output<int64_t> order;
  Output<int64_t> rank({sites.rows});
  RunReleased(threads, [&](rulebook::CpuContext& context) {
    rulebook::SortSites<Device::kCpu>(context, sites, shape, policy, rank.data(),
                                      [&](int64_t rows) {
                                        sorted = Output<int32_t>({rows, sites.columns()});
                                        order = Output<int64_t>({rows});
                                        return rulebook::SortedSites{sorted.data(), order.data()};
                                      });
  });
  return nb::make_tuple(sorted.Release(), order.Release(), rank.Release());
}

void CheckCanonical(const Array<int32_t>& coords, const std::vector<int64_t>& spatial_shape,
                    int threads) {
  const rulebook::SpatialShape shape = ToPerAxis(spatial_shape, "spatial_shape");
  const CoordsView sites = ToCoords(coords, shape.axes);
  RunReleased(threads, [&](rulebook::CpuContext& context) {
    rulebook::CheckCanonical<Device::kCpu>(context, sites, shape);
  });
}

nb::ndarray<nb::numpy, int32_t> FindSites(const Array<int32_t>& coords, const Array<int32_t>& query,
                                          int threads) {
  const CoordsView sites = ToCoords(coords);
  const CoordsView wanted = ToCoords(query, sites.axes, "query");
  Output<int32_t> row({wanted.rows});
  RunReleased(threads, [&](rulebook::CpuContext& context) {
    rulebook::FindSites<Device::kCpu>(context, sites, wanted, row.data());
  });
  return row.Release();
}

}  // namespace

void BindCoords(nb::module_& module) {
  module.def("sort_sites", &SortSites, nb::arg("coords").noconvert(), nb::arg("spatial_shape"),
             nb::arg("duplicates") = "error", nb::kw_only(), nb::arg("threads") = 0,
             "Brings sites into canonical order: (coords, order, rank).");
  module.def("check_canonical", &CheckCanonical, nb::arg("coords").noconvert(),
             nb::arg("spatial_shape"), nb::kw_only(), nb::arg("threads") = 0,
             "Raises InvalidArgument unless coords are sorted, unique and in range.");
  module.def("find_sites", &FindSites, nb::arg("coords").noconvert(), nb::arg("query").noconvert(),
             nb::kw_only(), nb::arg("threads") = 0,
             "Rows of canonical coords equal to each query row, -1 where there is none.");
}

}  // namespace voxgate
