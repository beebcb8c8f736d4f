// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Between numpy and the library: borrowed inputs, outputs handed over without a copy, attributes.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "blocks.h"
#include "rulebook/coords.h"
#include "rulebook/error.h"
#include "rulebook/shape.h"

namespace voxgate {

namespace nb = nanobind;

// A C-contiguous numpy array of exactly this type. Its rank is checked by Expect, so that a wrong
// shape is an InvalidArgument with the shape in it.
template <typename T>
using Array = nb::ndarray<const T, nb::c_contig, nb::device::cpu>;

inline constexpr int64_t kAny = -1;

template <typename T>
std::string ShapeText(const Array<T>& array) {
  std::string text = "[";
  for (size_t axis = 0; axis < array.ndim(); ++axis) {
    text += (axis > 0 ? ", " : "") + std::to_string(array.shape(axis));
  }
  return text + "]";
}

// Throws unless `array` has this shape; kAny fits every size.
template <typename T>
void Expect(const Array<T>& array, const char* name, std::initializer_list<int64_t> shape) {
  bool fits = array.ndim() == shape.size();
  std::string expected;
  size_t axis = 0;
  for (const int64_t size : shape) {
    fits = fits && (size == kAny || static_cast<int64_t>(array.shape(axis)) == size);
    expected += (axis > 0 ? ", " : "") + (size == kAny ? "*" : std::to_string(size));
    ++axis;
  }
  if (!fits) {
    rulebook::ThrowInvalid(name, ": expected shape [", expected, "], got ", ShapeText(array));
  }
}

template <typename T>
int64_t Size(const Array<T>& array, size_t axis) {
  return static_cast<int64_t>(array.shape(axis));
}

// An array the library writes and Python then owns.
template <typename T>
class Output {
 public:
  Output() = default;
  Output(std::initializer_list<int64_t> shape) : Output(std::vector<int64_t>(shape)) {}
  explicit Output(std::vector<int64_t> shape) : shape_(std::move(shape)) {
    size_t elements = 1;
    for (const int64_t size : shape_) {
      if (__builtin_mul_overflow(elements, static_cast<size_t>(size), &elements)) {
        throw std::bad_alloc();
      }
    }
    if (elements > std::numeric_limits<size_t>::max() / sizeof(T)) throw std::bad_alloc();
    data_.reset(static_cast<T*>(TakeBlock(elements * sizeof(T))));
  }

  T* data() { return data_.get(); }

  // Hands the memory to a numpy array; this object is empty afterwards. Needs the GIL.
  nb::ndarray<nb::numpy, T> Release() {
    nb::capsule owner(data_.get(), [](void* data) noexcept { GiveBlock(data); });
    T* data = data_.release();
    std::vector<size_t> shape(shape_.begin(), shape_.end());
    return nb::ndarray<nb::numpy, T>(data, shape.size(), shape.data(), owner);
  }

 private:
  struct Delete {
    void operator()(T* data) const { GiveBlock(data); }
  };
  std::vector<int64_t> shape_;
  std::unique_ptr<T[], Delete> data_;
};

// coords int32 [N, 1+D] with any D the library has; `axes` demands one.
inline rulebook::CoordsView ToCoords(const Array<int32_t>& coords, int axes = -1,
                                     const char* name = "coords") {
  Expect(coords, name, {kAny, axes < 0 ? kAny : axes + 1});
  const int64_t columns = Size(coords, 1);
  if (columns < 2 || columns > rulebook::kMaxAxes + 1) {
    rulebook::ThrowInvalid(name, ": expected shape [N, 1+D] with D in 1..", rulebook::kMaxAxes,
                           ", got ", ShapeText(coords));
  }
  return {coords.data(), Size(coords, 0), static_cast<int>(columns - 1)};
}

inline rulebook::PerAxis ToPerAxis(const std::vector<int64_t>& values, const char* name) {
  if (values.empty() || values.size() > static_cast<size_t>(rulebook::kMaxAxes)) {
    rulebook::ThrowInvalid(name, ": expected 1 to ", rulebook::kMaxAxes, " values, got ",
                           values.size());
  }
  rulebook::PerAxis result;
  result.axes = static_cast<int>(values.size());
  for (int axis = 0; axis < result.axes; ++axis) result[axis] = values[static_cast<size_t>(axis)];
  return result;
}

inline rulebook::PerAxis ToPerAxis(const std::vector<int64_t>& values, int axes, const char* name) {
  const rulebook::PerAxis result = ToPerAxis(values, name);
  if (result.axes != axes) {
    rulebook::ThrowInvalid(name, " ", rulebook::ToString(result), ": expected ", axes,
                           " values, got ", result.axes);
  }
  return result;
}

// The value of `choices` that `text` names.
template <typename Enum, size_t N>
Enum Choose(const std::string& text, const char* name,
            const std::array<std::pair<std::string_view, Enum>, N>& choices) {
  std::string known;
  for (const auto& [choice, value] : choices) {
    if (text == choice) return value;
    known += (known.empty() ? "" : ", ") + std::string(choice);
  }
  rulebook::ThrowInvalid(name, " '", text, "': expected one of ", known);
}

}  // namespace voxgate
