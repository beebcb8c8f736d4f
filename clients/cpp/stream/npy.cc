// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "npy.h"

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <fstream>

#include "voxgate_client/error.h"

namespace voxgate {
namespace {

const char* Description(DataType dtype) {
  switch (dtype) {
    case DataType::kFloat32:
    case DataType::kBfloat16:
      return "<f4";
    case DataType::kFloat16:
      return "<f2";
    case DataType::kInt8:
      return "|i1";
    case DataType::kUint8:
      return "|u1";
    case DataType::kInt16:
      return "<i2";
    case DataType::kInt32:
      return "<i4";
    case DataType::kInt64:
      return "<i8";
    case DataType::kBool:
      return "|b1";
  }
  return "";
}

// Version 1.0 of the format, https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
std::string Header(const Tensor& tensor) {
  constexpr size_t kAlignment = 64;
  constexpr size_t kPrefixBytes = 10;
  std::string text = "{'descr': '";
  text += Description(tensor.dtype);
  text += "', 'fortran_order': False, 'shape': (";
  for (const int64_t length : tensor.shape) text += std::to_string(length) + ",";
  text += "), }";
  while ((kPrefixBytes + text.size() + 1) % kAlignment != 0) text += ' ';
  text += '\n';
  std::string header("\x93NUMPY\x01\x00", 8);
  header += static_cast<char>(text.size() & 0xFF);
  header += static_cast<char>(text.size() >> 8);
  return header + text;
}

}  // namespace

void WriteNpy(const std::string& path, const Tensor& tensor) {
  const std::string header = Header(tensor);
  std::ofstream file(path, std::ios::binary);
  file.write(header.data(), static_cast<std::streamsize>(header.size()));
  if (tensor.dtype == DataType::kBfloat16) {
    const std::vector<float> values = tensor.Floats();
    file.write(reinterpret_cast<const char*>(values.data()),
               static_cast<std::streamsize>(values.size() * sizeof(float)));
  } else {
    file.write(tensor.data.data(), static_cast<std::streamsize>(tensor.data.size()));
  }
  file.close();
  if (!file) throw FileError(path, std::string("cannot be written: ") + std::strerror(errno));
}

std::string FileNamePart(const std::string& name) {
  constexpr size_t kMaxLength = 100;
  std::string part = name.substr(0, kMaxLength);
  for (char& c : part) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (!plain && c != '-') c = '_';
  }
  return part;
}

}  // namespace voxgate
