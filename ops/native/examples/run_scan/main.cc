// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// run_scan MODEL.onnx SCAN.bin [--columns 4] [--threads 0] [--runs 5]
//
// Loads an exported model, runs one LiDAR sweep (float32 rows as KITTI and nuScenes store them)
// through it in this process and prints what comes out and how long it takes.
#include <algorithm>
#include <chrono>
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
  int columns = 4;
  int threads = 0;
  int runs = 5;
};

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
    } else if (++i < argc) {
      *number = std::stoi(argv[i]);
    }
  }
  if (options.files.size() != 2 || options.columns < 3 || options.runs < 1) {
    throw std::invalid_argument(
        "usage: run_scan MODEL.onnx SCAN.bin [--columns 4] [--threads 0] [--runs 5]");
  }
  if (options.threads < 1) {
    options.threads = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  }
  return options;
}

Scan ReadScan(const std::string& path, int columns) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) throw std::runtime_error("cannot open " + path);
  const auto bytes = static_cast<int64_t>(file.tellg());
  const int64_t row = columns * static_cast<int64_t>(sizeof(float));
  if (bytes % row != 0) {
    throw std::runtime_error(path + " has " + std::to_string(bytes) +
                             " bytes, no multiple of the " + std::to_string(row) + " of a point");
  }
  Scan scan;
  scan.columns = columns;
  scan.points.resize(static_cast<size_t>(bytes) / sizeof(float));
  file.seekg(0);
  file.read(reinterpret_cast<char*>(scan.points.data()), bytes);
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
  std::printf("scan    %lld points\n", static_cast<long long>(scan.rows()));
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
