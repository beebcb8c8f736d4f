// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// The little that the native tests need of a test framework: TEST(name) { … } registers a test,
// CHECK and its relatives fail it with the values in the message, RunTests() is main().
#pragma once

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace check {

struct Test {
  const char* name;
  void (*body)();
};

inline std::vector<Test>& Tests() {
  static std::vector<Test> tests;
  return tests;
}

struct Registrar {
  Registrar(const char* name, void (*body)()) { Tests().push_back({name, body}); }
};

class Failure : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

template <typename... Parts>
[[noreturn]] void Fail(const char* file, int line, const Parts&... parts) {
  std::ostringstream message;
  message << file << ":" << line << ": ";
  (message << ... << parts);
  throw Failure(message.str());
}

template <typename A, typename B>
void CheckEqual(const A& a, const B& b, const char* expression, const char* file, int line) {
  if (!(a == b)) Fail(file, line, expression, ": ", a, " != ", b);
}

// `body` must throw an E whose message contains `part`.
template <typename E, typename Body>
void CheckThrows(const Body& body, const std::string& part, const char* file, int line) {
  std::string message;
  try {
    body();
  } catch (const E& error) {
    message = error.what();
    if (message.find(part) == std::string::npos) {
      Fail(file, line, "the error \"", message, "\" does not mention \"", part, "\"");
    }
    return;
  }
  Fail(file, line, "nothing was thrown; expected an error that mentions \"", part, "\"");
}

inline int RunTests() {
  int failed = 0;
  for (const Test& test : Tests()) {
    try {
      test.body();
      std::printf("ok      %s\n", test.name);
    } catch (const std::exception& error) {
      ++failed;
      std::printf("FAILED  %s\n        %s\n", test.name, error.what());
    }
    std::fflush(stdout);
  }
  std::printf("%d of %d tests failed\n", failed, static_cast<int>(Tests().size()));
  return failed == 0 && !Tests().empty() ? EXIT_SUCCESS : EXIT_FAILURE;
}

}  // namespace check

#define TEST(name)                                            \
  static void name();                                         \
  static const check::Registrar name##Registrar(#name, name); \
  static void name()
#define CHECK(condition)                                                             \
  do {                                                                               \
    if (!(condition)) check::Fail(__FILE__, __LINE__, #condition, " does not hold"); \
  } while (false)
#define CHECK_EQ(a, b) check::CheckEqual(a, b, #a " == " #b, __FILE__, __LINE__)
#define CHECK_THROWS(Type, part, ...) \
  check::CheckThrows<Type>([&] { __VA_ARGS__; }, part, __FILE__, __LINE__)
