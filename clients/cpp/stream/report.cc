// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "report.h"

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <nlohmann/json.hpp>
#include <numeric>
#include <ostream>
#include <utility>

namespace voxgate {
namespace {

constexpr std::array<int, 3> kPercentiles = {50, 90, 99};
constexpr std::array<const char*, kStages.size()> kMeanings = {
    "first to last byte", "parse, check, sort", "wait for the engine", "the network",
    "answer to bytes",    "of the server",      "send to answer",
};
constexpr size_t kMaxMessages = 5;
constexpr int kWidth = 9;

std::array<double, kStages.size()> Milliseconds(const FrameResult& result) {
  const Timing& timing = result.timing;
  std::array<double, kStages.size()> values = {};
  const std::array<uint64_t, 6> micros = {timing.receive_us, timing.decode_us, timing.queue_us,
                                          timing.execute_us, timing.encode_us, timing.total_us};
  std::transform(micros.begin(), micros.end(), values.begin(),
                 [](uint64_t us) { return static_cast<double>(us) / 1e3; });
  values.back() = result.client_time.count() * 1e3;
  return values;
}

// The most frequent first.
std::vector<std::pair<std::string, size_t>> Frequent(const std::map<std::string, size_t>& counts) {
  std::vector<std::pair<std::string, size_t>> sorted(counts.begin(), counts.end());
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  if (sorted.size() > kMaxMessages) sorted.resize(kMaxMessages);
  return sorted;
}

}  // namespace

double Percentile(const std::vector<double>& values, double percent) {
  const double place = percent / 100 * static_cast<double>(values.size() - 1);
  const auto below = static_cast<size_t>(std::floor(place));
  const size_t above = std::min(below + 1, values.size() - 1);
  return values[below] + (place - std::floor(place)) * (values[above] - values[below]);
}

std::string Printable(std::string text) {
  std::replace_if(
      text.begin(), text.end(), [](char c) { return (c >= 0 && c < ' ') || c == 127; }, ' ');
  return text;
}

Report::Report(ModelInfo model, bool replaces, bool prints, std::ostream& out)
    : model_(std::move(model)), replaces_(replaces), prints_(prints), out_(out) {
  if (prints_) PrintHead();
}

void Report::PrintHead() {
  out_ << Printable(model_.name) << " " << Printable(model_.version) << ", milliseconds\n"
       << std::setw(6) << "frame" << std::setw(kWidth)
       << (model_.input_kind == "voxels" ? "sites" : "points");
  for (const char* stage : kStages) out_ << std::setw(kWidth) << stage;
  out_ << "  file\n" << std::flush;
}

void Report::Sent(const std::string& frame_id, const std::string& file, size_t rows,
                  uint64_t bytes) {
  ++num_sent_;
  waiting_[frame_id] = {file, rows, bytes};
}

void Report::NotSent(const std::string& frame_id) {
  --num_sent_;
  waiting_.erase(frame_id);
}

Report::FrameLine Report::Take(const std::string& frame_id) {
  FrameLine line = waiting_[frame_id];
  waiting_.erase(frame_id);
  return line;
}

void Report::Add(const FrameResult& result) {
  const FrameLine line = Take(result.frame_id);
  const auto values = Milliseconds(result);
  ++num_ok_;
  rows_ += line.rows;
  bytes_ += line.bytes;
  for (size_t s = 0; s < values.size(); ++s) stages_[s].push_back(values[s]);
  if (!prints_) return;
  out_ << std::setw(6) << result.frame_id << std::setw(kWidth) << line.rows << std::fixed
       << std::setprecision(2);
  for (const double value : values) out_ << std::setw(kWidth) << value;
  out_ << "  " << line.file << "\n" << std::flush;
}

void Report::Add(const FrameFailure& failure) {
  const FrameLine line = Take(failure.frame_id);
  if (replaces_ && failure.code == StatusCode::kAborted) {
    ++num_superseded_;
  } else {
    ++errors_[Name(failure.code)];
    ++messages_[std::string(Name(failure.code)) + ": " + Printable(failure.message)];
  }
  if (!prints_) return;
  out_ << std::setw(6) << failure.frame_id << std::setw(kWidth) << line.rows << "  "
       << Name(failure.code) << ": " << Printable(failure.message) << "  " << line.file << "\n"
       << std::flush;
}

size_t Report::num_failed() const {
  return std::accumulate(errors_.begin(), errors_.end(), size_t{0},
                         [](size_t sum, const auto& error) { return sum + error.second; });
}

std::array<std::vector<double>, kStages.size()> Report::Sorted() const {
  auto sorted = stages_;
  for (auto& values : sorted) std::sort(values.begin(), values.end());
  return sorted;
}

void Report::Print(double seconds) const {
  if (num_ok_ > 0) {
    out_ << "\nlatency, ms";
    for (const int percent : kPercentiles) out_ << std::setw(kWidth - 2) << "p" << percent;
    out_ << std::setw(kWidth) << "max" << "\n" << std::fixed << std::setprecision(2);
    const auto sorted = Sorted();
    for (size_t s = 0; s < kStages.size(); ++s) {
      out_ << std::left << std::setw(11) << kStages[s] << std::right;
      for (const int percent : kPercentiles) {
        out_ << std::setw(kWidth) << Percentile(sorted[s], percent);
      }
      out_ << std::setw(kWidth) << sorted[s].back() << "  " << kMeanings[s] << "\n";
    }
  }
  out_ << std::fixed << std::setprecision(1) << "\n"
       << num_sent_ << " frames sent in " << seconds << " s: " << num_ok_ << " ok, " << num_failed()
       << " failed";
  if (num_superseded_ > 0) out_ << ", " << num_superseded_ << " replaced by newer ones";
  if (num_ok_ > 0 && seconds > 0) {
    out_ << "; " << static_cast<double>(num_ok_) / seconds << " frames/s, "
         << static_cast<double>(bytes_) / seconds / 1e6 << " MB/s";
  }
  out_ << "\n";
  for (const auto& [message, count] : Frequent(messages_)) {
    out_ << "  " << count << " x " << message << "\n";
  }
  out_ << std::flush;
}

void Report::PrintJson(double seconds) const {
  nlohmann::ordered_json json;
  json["model"] = model_.name;
  json["version"] = model_.version;
  json["frames"] = {
      {"sent", num_sent_}, {"ok", num_ok_}, {"superseded", num_superseded_}, {"errors", errors_}};
  json["seconds"] = seconds;
  const double per_second = seconds > 0 ? 1 / seconds : 0;
  json["frames_per_second"] = static_cast<double>(num_ok_) * per_second;
  json["bytes_per_second"] = static_cast<double>(bytes_) * per_second;
  json[model_.input_kind == "voxels" ? "sites" : "points"] = rows_;
  json["latency_ms"] = nlohmann::ordered_json::object();
  const auto sorted = Sorted();
  for (size_t s = 0; num_ok_ > 0 && s < kStages.size(); ++s) {
    auto& stage = json["latency_ms"][kStages[s]];
    for (const int percent : kPercentiles) {
      stage["p" + std::to_string(percent)] = Percentile(sorted[s], percent);
    }
    stage["max"] = sorted[s].back();
  }
  json["messages"] = nlohmann::ordered_json::object();
  for (const auto& [message, count] : Frequent(messages_)) json["messages"][message] = count;
  // A server's message may be no UTF-8, which would be an exception here.
  out_ << json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) << "\n"
       << std::flush;
}

}  // namespace voxgate
