// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// voxgate_stream: point-cloud files to a Voxgate server, latencies back.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "arguments.h"
#include "npy.h"
#include "report.h"
#include "voxgate_client/client.h"

namespace voxgate {
namespace {

enum ExitStatus {
  kAllAnswered = 0,
  kFrameFailed = 1,
  kWrongUsage = 2,
  kNoStream = 3,
  kBadFile = 4,
  kInterrupted = 130,
};

using Clock = std::chrono::steady_clock;

// Prepared frames kept for --loop, so that rounds after the first measure the server and not us.
constexpr size_t kMaxKept = 64;
// How soon Ctrl-C is noticed.
constexpr Seconds kPatience{0.1};

volatile std::sig_atomic_t interrupted = 0;

void Interrupt(int) {
  interrupted = 1;
  std::signal(SIGINT, SIG_DFL);  // a second one ends the program
}

void PrintError(const std::string& message) {
  std::cerr << "error: " << Printable(message) << std::endl;
}

// One run over the files: a thread that collects the answers beside the one that sends.
class Run {
 public:
  Run(const Arguments& arguments, Stream* stream)
      : arguments_(arguments),
        stream_(stream),
        report_(stream->model(), arguments.stream.policy == QueuePolicy::kLatest,
                !arguments.quiet && !arguments.json, std::cout) {}

  ExitStatus Go() {
    const auto start = Clock::now();
    std::thread collector([this] { Collect(); });
    try {
      SendAll();
    } catch (const Error& error) {  // the stream is over; what is left comes as its end
      broken_ = true;
      PrintError(error.message());
    }
    if (interrupted != 0) {
      std::cerr << "stopped; what was answered so far:" << std::endl;
      stream_->Close();
    }
    stream_->CloseSending();
    while (interrupted == 0 && !done_.load()) std::this_thread::sleep_for(Seconds{0.005});
    if (interrupted != 0) stream_->Close();
    collector.join();
    const double seconds = Seconds(Clock::now() - start).count();
    for (const Notice& notice : stream_->TakeNotices()) {
      std::cerr << notice.kind << ": " << Printable(notice.message) << "\n";
    }
    if (arguments_.json) {
      report_.PrintJson(seconds);
    } else {
      report_.Print(seconds);
    }
    return Status();
  }

 private:
  ExitStatus Status() const {
    if (interrupted != 0) return kInterrupted;
    if (bad_file_) return kBadFile;
    return broken_ || report_.num_failed() > 0 ? kFrameFailed : kAllAnswered;
  }

  void SendAll() {
    const auto start = Clock::now();
    size_t number = 0;
    for (size_t round = 0; round < arguments_.loop; ++round) {
      for (const std::string& file : arguments_.files) {
        Frame* const frame = Prepared(file);
        if (frame == nullptr) continue;
        if (arguments_.rate.has_value()) {
          SleepUntil(start + std::chrono::duration_cast<Clock::duration>(
                                 Seconds(static_cast<double>(number) / *arguments_.rate)));
        }
        if (!WaitForRoom()) return;
        Send(frame, std::to_string(number), file);
        ++number;
      }
    }
  }

  // nullptr for a file that cannot be sent, which is said once.
  Frame* Prepared(const std::string& file) {
    if (std::find(bad_files_.begin(), bad_files_.end(), file) != bad_files_.end()) return nullptr;
    if (const auto kept = kept_.find(file); kept != kept_.end()) return &kept->second;
    try {
      Frame frame = MakeFrame(ReadBin(file, arguments_.columns), stream_->model(), arguments_.fill);
      frame.sensor_id = arguments_.sensor_id;
      if (kept_.size() >= kMaxKept) {
        last_ = std::move(frame);
        return &last_;
      }
      return &(kept_[file] = std::move(frame));
    } catch (const FileError& error) {
      PrintError(error.message());
    } catch (const Error& error) {
      PrintError(file + ": " + error.message());
    }
    bad_file_ = true;
    bad_files_.push_back(file);
    return nullptr;
  }

  static void SleepUntil(Clock::time_point moment) {
    while (interrupted == 0 && Clock::now() < moment) {
      const auto patience = std::chrono::duration_cast<Clock::duration>(kPatience);
      std::this_thread::sleep_until(std::min(moment, Clock::now() + patience));
    }
  }

  // So that a frame's time is taken when it goes out. False: stop sending.
  bool WaitForRoom() {
    while (interrupted == 0) {
      if (stream_->WaitForRoom(kPatience)) return true;
      if (stream_->end().has_value()) return true;  // Send says why
    }
    return false;
  }

  void Send(Frame* frame, const std::string& frame_id, const std::string& file) {
    frame->frame_id = frame_id;
    frame->captured_at = std::chrono::system_clock::now();
    const std::string name = std::filesystem::path(file).filename().string();
    {
      std::lock_guard lock(mutex_);
      report_.Sent(frame_id, name, frame->count(), frame->bytes());
    }
    try {
      stream_->Send(*frame);
    } catch (const Error& error) {
      std::lock_guard lock(mutex_);
      report_.NotSent(frame_id);
      if (error.code() != StatusCode::kInvalidArgument) throw;
      PrintError(file + ": " + error.message());  // above the server's limit, say
      bad_file_ = true;
    }
  }

  void Collect() {
    while (const auto answer = stream_->Receive()) {
      std::lock_guard lock(mutex_);
      std::visit([this](const auto& any) { report_.Add(any); }, *answer);
      if (const auto* result = std::get_if<FrameResult>(&*answer)) Save(*result);
    }
    done_ = true;
  }

  void Save(const FrameResult& result) {
    if (arguments_.save.empty() || broken_save_) return;
    try {
      for (const Tensor& tensor : result.outputs) {
        const std::string name = result.frame_id + "." + FileNamePart(tensor.name) + ".npy";
        WriteNpy((std::filesystem::path(arguments_.save) / name).string(), tensor);
      }
    } catch (const FileError& error) {
      PrintError(error.message());
      broken_save_ = bad_file_ = true;
    }
  }

  const Arguments& arguments_;
  Stream* const stream_;
  std::mutex mutex_;
  Report report_;
  std::map<std::string, Frame> kept_;
  Frame last_;
  std::vector<std::string> bad_files_;
  std::atomic<bool> bad_file_{false};
  std::atomic<bool> done_{false};
  bool broken_ = false;
  bool broken_save_ = false;
};

std::string ReadyModels(const std::vector<ModelInfo>& models) {
  std::string names;
  for (const ModelInfo& model : models) {
    if (model.state != "READY") continue;
    if (!names.empty()) names += ", ";
    names += model.name;
  }
  return names.empty() ? "none" : names;
}

std::string ChooseModel(const Client& client, const Arguments& arguments) {
  if (!arguments.model.empty()) return arguments.model;
  const std::vector<ModelInfo> models = client.ListModels();
  std::string chosen;
  for (const ModelInfo& model : models) {
    if (model.state != "READY" || model.name == chosen) continue;
    if (!chosen.empty()) {
      throw Error(StatusCode::kInvalidArgument,
                  "the server has several models, choose one with --model: " + ReadyModels(models));
    }
    chosen = model.name;
  }
  if (chosen.empty()) {
    throw Error(StatusCode::kNotFound,
                "no model is ready at " + arguments.client.target +
                    ": start the server with a folder of models (voxgate serve --models models)");
  }
  return chosen;
}

// What could be done about a stream that did not open.
std::string Advice(const Client& client, const Arguments& arguments, const Error& error) {
  try {
    switch (error.code()) {
      case StatusCode::kNotFound:
        return "ready at " + arguments.client.target + ": " + ReadyModels(client.ListModels());
      case StatusCode::kUnavailable:
      case StatusCode::kDeadlineExceeded:
        return "no server answers at " + arguments.client.target +
               ": start one with voxgate serve --models models, name another with --target, or "
               "use --tls if it does";
      case StatusCode::kUnauthenticated:
        return "give a token with --token-file or VOXGATE_TOKEN, or a certificate with "
               "--tls-certificate and --tls-key";
      default:
        return "";
    }
  } catch (const Error&) {  // the list is only a help
    return "";
  }
}

ExitStatus Main(const std::vector<std::string>& words) {
  Arguments arguments;
  try {
    arguments = ParseArguments(words);
    if (!arguments.save.empty()) std::filesystem::create_directories(arguments.save);
  } catch (const UsageError& error) {
    PrintError(std::string(error.what()) + " (voxgate_stream --help says what there is)");
    return kWrongUsage;
  } catch (const Error& error) {
    PrintError(error.message());
    return kBadFile;
  } catch (const std::filesystem::filesystem_error& error) {
    PrintError(error.what());
    return kBadFile;
  }
  if (arguments.help) {
    std::cout << kHelp;
    return kAllAnswered;
  }
  std::unique_ptr<Client> client;
  std::unique_ptr<Stream> stream;
  try {
    client = std::make_unique<Client>(arguments.client);
    stream = client->OpenStream(ChooseModel(*client, arguments), arguments.stream);
  } catch (const Error& error) {
    PrintError(error.what());
    const std::string advice = client == nullptr ? "" : Advice(*client, arguments, error);
    if (!advice.empty()) std::cerr << Printable(advice) << std::endl;
    return kNoStream;
  }
  std::signal(SIGINT, Interrupt);
  return Run(arguments, stream.get()).Go();
}

}  // namespace
}  // namespace voxgate

int main(int argc, char** argv) {
  try {
    return voxgate::Main({argv + std::min(argc, 1), argv + argc});
  } catch (const std::exception& error) {  // out of memory, say
    std::fprintf(stderr, "error: %s\n", error.what());
    return voxgate::kFrameFailed;
  }
}
