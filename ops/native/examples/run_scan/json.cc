// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "json.h"

#include <cctype>
#include <stdexcept>

namespace {

class Scanner {
 public:
  explicit Scanner(std::string_view text) : text_(text) {}

  char Peek() {
    while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_])) != 0) ++at_;
    if (at_ == text_.size()) throw std::runtime_error("the metadata ends too early");
    return text_[at_];
  }
  bool Take(char expected) {
    if (Peek() != expected) return false;
    ++at_;
    return true;
  }
  void Expect(char expected) {
    if (!Take(expected)) {
      throw std::runtime_error(std::string("the metadata has no '") + expected + "' at byte " +
                               std::to_string(at_));
    }
  }
  // A string, its quotes left out; escapes stay as they are written.
  std::string String() {
    Expect('"');
    const size_t begin = at_;
    while (at_ < text_.size() && text_[at_] != '"') at_ += text_[at_] == '\\' ? 2 : 1;
    if (at_ >= text_.size()) throw std::runtime_error("the metadata has an open string");
    return std::string(text_.substr(begin, at_++ - begin));
  }
  // Any value, as the text it is written in.
  std::string Value() {
    Peek();
    const size_t begin = at_;
    int depth = 0;
    do {
      const char next = Peek();
      if (next == '"') {
        String();
        continue;
      }
      depth += next == '{' || next == '[' ? 1 : 0;
      depth -= next == '}' || next == ']' ? 1 : 0;
      ++at_;
    } while (depth > 0 || (Peek() != ',' && Peek() != '}'));
    return std::string(text_.substr(begin, at_ - begin));
  }

 private:
  std::string_view text_;
  size_t at_ = 0;
};

}  // namespace

std::map<std::string, std::string> ObjectMembers(std::string_view json) {
  Scanner scanner(json);
  std::map<std::string, std::string> members;
  scanner.Expect('{');
  if (scanner.Take('}')) return members;
  do {
    const std::string key = scanner.String();
    scanner.Expect(':');
    members[key] = scanner.Value();
  } while (scanner.Take(','));
  scanner.Expect('}');
  return members;
}

std::vector<float> Numbers(const std::string& json) {
  std::vector<float> numbers;
  for (size_t at = 0; at < json.size();) {
    if (std::isdigit(static_cast<unsigned char>(json[at])) != 0 || json[at] == '-') {
      size_t length = 0;
      numbers.push_back(std::stof(json.substr(at), &length));
      at += length;
    } else {
      ++at;
    }
  }
  return numbers;
}
