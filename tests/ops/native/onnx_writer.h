// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Writes small ONNX models as protobuf bytes, enough to put an operator between graph inputs and
// outputs. Field numbers are those of onnx.proto.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

namespace onnx_writer {

enum ElementType : uint64_t { kFloat = 1, kInt32 = 6, kInt64 = 7 };

class Message {
 public:
  Message& Varint(uint64_t field, uint64_t value) {
    Raw(field << 3U);
    return Raw(value);
  }
  Message& Bytes(uint64_t field, const std::string& value) {
    Raw((field << 3U) | 2U);
    Raw(value.size());
    bytes_ += value;
    return *this;
  }
  Message& Float(uint64_t field, float value) {
    Raw((field << 3U) | 5U);
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
    return *this;
  }
  Message& Nested(uint64_t field, const Message& value) { return Bytes(field, value.bytes_); }
  const std::string& bytes() const { return bytes_; }

 private:
  Message& Raw(uint64_t value) {
    for (; value >= 0x80U; value >>= 7U) bytes_ += static_cast<char>(value | 0x80U);
    bytes_ += static_cast<char>(value);
    return *this;
  }

  std::string bytes_;
};

class Node {
 public:
  Node(const std::string& op_type, const std::vector<std::string>& inputs,
       const std::vector<std::string>& outputs) {
    for (const std::string& name : inputs) message_.Bytes(1, name);
    for (const std::string& name : outputs) message_.Bytes(2, name);
    message_.Bytes(3, op_type).Bytes(4, op_type).Bytes(7, "voxgate");
  }
  Node& Int(const std::string& name, int64_t value) {
    return Add(Message().Bytes(1, name).Varint(3, static_cast<uint64_t>(value)).Varint(20, 2));
  }
  Node& Float(const std::string& name, float value) {
    return Add(Message().Bytes(1, name).Float(2, value).Varint(20, 1));
  }
  Node& String(const std::string& name, const std::string& value) {
    return Add(Message().Bytes(1, name).Bytes(4, value).Varint(20, 3));
  }
  Node& Ints(const std::string& name, const std::vector<int64_t>& values) {
    Message attribute;
    attribute.Bytes(1, name);
    for (const int64_t value : values) attribute.Varint(8, static_cast<uint64_t>(value));
    return Add(attribute.Varint(20, 7));
  }
  Node& Floats(const std::string& name, const std::vector<float>& values) {
    Message attribute;
    attribute.Bytes(1, name);
    for (const float value : values) attribute.Float(7, value);
    return Add(attribute.Varint(20, 6));
  }
  const Message& message() const { return message_; }

 private:
  Node& Add(const Message& attribute) {
    message_.Nested(5, attribute);
    return *this;
  }

  Message message_;
};

class Model {
 public:
  Model& Add(const Node& node) {
    graph_.Nested(1, node.message());
    return *this;
  }
  Model& Initializer(const std::string& name, const std::vector<int64_t>& dims,
                     const std::vector<float>& values) {
    Message tensor;
    for (const int64_t dim : dims) tensor.Varint(1, static_cast<uint64_t>(dim));
    std::string data(values.size() * sizeof(float), '\0');
    std::memcpy(data.data(), values.data(), data.size());
    graph_.Nested(5, tensor.Varint(2, kFloat).Bytes(8, name).Bytes(9, data));
    return *this;
  }
  // Every axis is left open, so that the operators' own checks see what a caller sends.
  Model& Input(const std::string& name, ElementType type, int rank) {
    graph_.Nested(11, Value(name, type, rank));
    return *this;
  }
  Model& Output(const std::string& name, ElementType type, int rank) {
    graph_.Nested(12, Value(name, type, rank));
    return *this;
  }
  std::string Bytes() const {
    Message model;
    model.Varint(1, 9);
    model.Nested(7, Message(graph_).Bytes(2, "test"));
    model.Nested(8, Message().Bytes(1, "").Varint(2, 18));
    model.Nested(8, Message().Bytes(1, "voxgate").Varint(2, 1));
    return model.bytes();
  }

 private:
  static Message Value(const std::string& name, ElementType type, int rank) {
    Message shape;
    for (int axis = 0; axis < rank; ++axis) {
      shape.Nested(1, Message().Bytes(2, name + std::to_string(axis)));
    }
    const Message tensor = Message().Varint(1, type).Nested(2, shape);
    return Message().Bytes(1, name).Nested(2, Message().Nested(1, tensor));
  }

  Message graph_;
};

}  // namespace onnx_writer
