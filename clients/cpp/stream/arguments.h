// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// The command line of voxgate_stream.
#pragma once

#include <cstddef>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "voxgate_client/client.h"

namespace voxgate {

// A command line that means nothing; says what would.
class UsageError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct Arguments {
  bool help = false;
  std::vector<std::string> files;
  std::string model;  // "": the server's only one
  ClientOptions client;
  StreamOptions stream;
  std::optional<double> rate;  // frames per second; none: each after the last answer
  size_t loop = 1;
  size_t columns = 0;
  std::optional<float> fill;
  std::string sensor_id;
  std::string save;  // folder for the answers; "": they are not kept
  bool quiet = false;
  bool json = false;
};

// Reads the files that options name, and the token from the environment.
// Throws UsageError, or FileError for a certificate or token that cannot be read.
Arguments ParseArguments(const std::vector<std::string>& words);

extern const char* const kHelp;

}  // namespace voxgate
