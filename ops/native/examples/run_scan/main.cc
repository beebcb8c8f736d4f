// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// run_scan MODEL.onnx SCAN.bin [--columns N] [--threads N] [--runs 5]
//
// Loads an exported model, runs one LiDAR sweep (float32 rows as KITTI and nuScenes store them)
// through it in this process and prints what comes out and how long it takes.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "model.h"

namespace {

struct Options {
  std::vector<std::string> files;
  int columns = 0;  // 0: 4 or 5, as the file looks
  int threads = 0;  // 0: one for each core
  int runs = 5;
};

int Number(const std::string& name, const std::string& text) {
  char* end = nullptr;
  const long value = std::strtol(text.c_str(), &end, 10);
  if (text.empty() || *end != '\0' || value < 1 || value > 1'000'000) {
    throw std::invalid_argument(name + " " + text + ": expected a whole number from 1 to 1000000");
  }
  return static_cast<int>(value);
}

Options Parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    int* number = argument == "--columns"   ? &options.columns
                  : argument == "--threads" ? &options.threads
                  : argument == "--runs"    ? &options.runs
                                            : nullptr;
    if (number == nullptr) {
      options.files.push_back(argument);
    } else {
      *number = Number(argument, ++i < argc ? argv[i] : "");
    }
  }
  if (options.files.size() != 2 || options.columns == 1 || options.columns == 2) {
    throw std::invalid_argument(
        "usage: run_scan MODEL.onnx SCAN.bin [--columns N] [--threads N] [--runs 5]");
  }
  if (options.threads < 1) {
    options.threads = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  }
  return options;
}

// KITTI has rows of 4 values. nuScenes has 5, of which the last is the ring that the point is on.
int GuessColumns(const std::vector<float>& values) {
  if (values.empty() || values.size() % 5 != 0) return 4;
  if (values.size() % 4 != 0) return 5;
  for (size_t i = 4; i < values.size(); i += 5) {
    if (!(values[i] >= 0 && values[i] < 256) || values[i] != std::floor(values[i])) return 4;
  }
  return 5;
}

Scan ReadScan(const std::string& path, int columns) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) throw std::runtime_error("cannot open " + path);
  const auto bytes = static_cast<size_t>(file.tellg());
  Scan scan;
  scan.points.resize(bytes / sizeof(float));
  file.seekg(0);
  file.read(reinterpret_cast<char*>(scan.points.data()),
            static_cast<std::streamsize>(scan.points.size() * sizeof(float)));
  scan.columns = columns == 0 ? GuessColumns(scan.points) : columns;
  const size_t row = static_cast<size_t>(scan.columns) * sizeof(float);
  if (bytes % row != 0) {
    throw std::runtime_error(path + " has " + std::to_string(bytes) +
                             " bytes, no multiple of the " + std::to_string(row) +
                             " of a point (--columns says how many values it has)");
  }
  return scan;
}

void PrintOutputs(const Model& model, const std::vector<Ort::Value>& outputs) {
  for (size_t i = 0; i < outputs.size(); ++i) {
    std::string shape;
    for (const int64_t size : outputs[i].GetTensorTypeAndShapeInfo().GetShape()) {
      shape += (shape.empty() ? "" : ", ") + std::to_string(size);
    }
    std::printf("output  %s [%s]\n", model.output_names()[i].c_str(), shape.c_str());
  }
}

int Main(int argc, char** argv) {
  const Options options = Parse(argc, argv);
  const Scan scan = ReadScan(options.files[1], options.columns);
  Model model(options.files[0], options.threads);
  std::printf("scan    %lld points of %lld values\n", static_cast<long long>(scan.rows()),
              static_cast<long long>(scan.columns));
  PrintOutputs(model, model.Run(scan));

  std::vector<double> times;
  for (int run = 0; run < options.runs; ++run) {
    const auto begin = std::chrono::steady_clock::now();
    model.Run(scan);
    times.push_back(
        std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin)
            .count());
  }
  std::sort(times.begin(), times.end());
  std::printf("time    %.1f ms median of %d runs (%.1f to %.1f), %d threads\n",
              times[times.size() / 2], options.runs, times.front(), times.back(), options.threads);
  return EXIT_SUCCESS;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return Main(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "run_scan: %s\n", error.what());
    return EXIT_FAILURE;
  }
}
