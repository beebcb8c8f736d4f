// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "arguments.h"

#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <iterator>
#include <limits>
#include <map>
#include <sstream>

namespace voxgate {

const char* const kHelp =
    R"(Stream point-cloud files to a Voxgate server and print the latency of every stage.

Usage: voxgate_stream [OPTION]... FILE...

FILE is a KITTI .bin (float32 x, y, z, intensity) or a nuScenes .pcd.bin (and ring). For a model of
voxels the points are averaged per voxel here, on the grid the model names; a model of points gets
them as they are.

Try it, with a server running (voxgate serve --models models):

  voxgate_stream 000000.bin                        one frame to the server's only model
  voxgate_stream --rate 10 --loop 5 scans/*.bin    as a sensor would send them
  voxgate_stream --rate 20 --policy latest --window 2 scans/*.bin
                                                   always the newest frame, older ones are dropped

What to send
  --model NAME           which model answers [the server's only one]
  --model-version N      a version of it [the newest that is ready]
  --output NAME          an output wanted, may be given several times [all of them]
  --rate HZ              frames per second [each after the last answer]
  --loop N               send everything so many times [1]
  --columns N            float32 per point, 3 to 256 [4 or 5, by the file]
  --fill VALUE           for a feature of the model that the files do not have
  --sensor-id NAME       comes back with every answer

How the stream works
  --policy fifo|latest   fifo: every frame is answered in order; latest: a newer frame replaces one
                         that waits, here and on the server [fifo]
  --window N             frames unanswered at once [1 without --rate; else as many as there are]
  --deadline SECONDS     a frame that could not start to execute in so long is not executed
  --max-queued N         frames of this stream that may wait on the server [its default]
  --priority N           higher goes first, as far as the server allows [0]
  --unordered            results as they are ready, not in the order sent
  --reconnect SECONDS    open a new stream when one breaks, until there was no server for so long
  --timeout SECONDS      for the server to accept the stream [30]

The connection
  --target HOST:PORT     [localhost:8001]
  --tls                  encrypt, and check the server by the system's certificates
  --tls-ca FILE          as --tls, by these certificates (PEM)
  --tls-certificate FILE, --tls-key FILE
                         this client's own, for servers that ask for them (PEM)
  --tls-name NAME        the name in the server's certificate, if not the target's host
  --token-file FILE      a token to authenticate with; VOXGATE_TOKEN may hold it instead
  --insecure-token       send the token without TLS to another machine

What to print
  --quiet                no line for each frame
  --json                 one JSON object instead of tables
  --save FOLDER          write every answer as FOLDER/<frame>.<output>.npy
  --help                 this text

Exit status
  0   every frame was answered with a result (or, with --policy latest, replaced by a newer one)
  1   a frame was answered with an error, or the stream broke
  2   the command line is wrong
  3   no stream: server not reached, model unknown, token or certificate refused
  4   a file could not be read or does not fit the model; the other files were still sent
  130 stopped with Ctrl-C
)";

namespace {

constexpr double kMaxSeconds = 86'400;

[[noreturn]] void Wrong(const std::string& message) { throw UsageError(message); }

double Number(const std::string& option, const std::string& word, double low, double high) {
  char* end = nullptr;
  const double value = std::strtod(word.c_str(), &end);
  if (word.empty() || *end != '\0' || !(value >= low && value <= high)) {
    std::ostringstream message;
    message << option << " is \"" << word << "\", expected a number from " << low << " to " << high;
    Wrong(message.str());
  }
  return value;
}

template <typename T>
T Whole(const std::string& option, const std::string& word, T low, T high) {
  errno = 0;
  char* end = nullptr;
  const long long value = std::strtoll(word.c_str(), &end, 10);
  const bool fits = errno == 0 && value >= static_cast<long long>(low) &&
                    (value < 0 || static_cast<unsigned long long>(value) <=
                                      static_cast<unsigned long long>(high));
  if (word.empty() || *end != '\0' || !fits) {
    Wrong(option + " is \"" + word + "\", expected a whole number from " + std::to_string(low) +
          " to " + std::to_string(high));
  }
  return static_cast<T>(value);
}

std::string ReadText(const std::string& path) {
  constexpr std::streamsize kMaxBytes = 1 << 20;
  std::ifstream file(path, std::ios::binary);
  if (!file) throw FileError(path, std::strerror(errno));
  std::string text(static_cast<size_t>(kMaxBytes) + 1, '\0');
  file.read(text.data(), kMaxBytes + 1);
  if (file.bad()) throw FileError(path, "could not be read");
  if (file.gcount() > kMaxBytes)
    throw FileError(path, "has more than 1 MiB: no certificate or token");
  if (file.gcount() == 0) throw FileError(path, "is empty");
  text.resize(static_cast<size_t>(file.gcount()));
  return text;
}

std::string WithoutLineEnd(std::string text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.pop_back();
  return text;
}

QueuePolicy Policy(const std::string& word) {
  if (word == "fifo") return QueuePolicy::kFifo;
  if (word == "latest") return QueuePolicy::kLatest;
  Wrong("--policy is \"" + word + "\", expected fifo or latest");
}

TlsOptions& Tls(Arguments& arguments) {
  if (!arguments.client.tls.has_value()) arguments.client.tls.emplace();
  return *arguments.client.tls;
}

using Flag = std::function<void(Arguments&)>;
using Option = std::function<void(Arguments&, const std::string& option, const std::string& word)>;

const std::map<std::string, Flag>& Flags() {
  static const std::map<std::string, Flag> flags = {
      {"--help", [](Arguments& a) { a.help = true; }},
      {"-h", [](Arguments& a) { a.help = true; }},
      {"--quiet", [](Arguments& a) { a.quiet = true; }},
      {"--json", [](Arguments& a) { a.json = true; }},
      {"--unordered", [](Arguments& a) { a.stream.unordered = true; }},
      {"--tls", [](Arguments& a) { Tls(a); }},
      {"--insecure-token", [](Arguments& a) { a.client.insecure_token = true; }},
  };
  return flags;
}

void AddSendingOptions(std::map<std::string, Option>& options) {
  options["--model"] = [](auto& a, auto&, auto& word) { a.model = word; };
  options["--model-version"] = [](auto& a, auto& option, auto& word) {
    a.stream.version =
        std::to_string(Whole<int64_t>(option, word, 1, std::numeric_limits<int64_t>::max()));
  };
  options["--output"] = [](auto& a, auto&, auto& word) { a.stream.outputs.push_back(word); };
  options["--rate"] = [](auto& a, auto& option, auto& word) {
    a.rate = Number(option, word, 0.01, 10'000);
  };
  options["--loop"] = [](auto& a, auto& option, auto& word) {
    a.loop = Whole<size_t>(option, word, 1, 1'000'000'000);
  };
  options["--columns"] = [](auto& a, auto& option, auto& word) {
    a.columns = Whole<size_t>(option, word, 3, 256);
  };
  options["--fill"] = [](auto& a, auto& option, auto& word) {
    constexpr double kMax = std::numeric_limits<float>::max();
    a.fill = static_cast<float>(Number(option, word, -kMax, kMax));
  };
  options["--sensor-id"] = [](auto& a, auto&, auto& word) { a.sensor_id = word; };
  options["--save"] = [](auto& a, auto&, auto& word) { a.save = word; };
}

void AddStreamOptions(std::map<std::string, Option>& options) {
  options["--policy"] = [](auto& a, auto&, auto& word) { a.stream.policy = Policy(word); };
  options["--window"] = [](auto& a, auto& option, auto& word) {
    a.stream.max_in_flight = Whole<size_t>(option, word, 1, 1'000'000);
  };
  options["--deadline"] = [](auto& a, auto& option, auto& word) {
    a.stream.frame_deadline = Seconds(Number(option, word, 1e-6, kMaxSeconds));
  };
  options["--max-queued"] = [](auto& a, auto& option, auto& word) {
    a.stream.max_queued_frames = Whole<uint32_t>(option, word, 1, 1'000'000);
  };
  options["--priority"] = [](auto& a, auto& option, auto& word) {
    a.stream.priority = Whole<int32_t>(option, word, std::numeric_limits<int32_t>::min(),
                                       std::numeric_limits<int32_t>::max());
  };
  options["--reconnect"] = [](auto& a, auto& option, auto& word) {
    a.stream.reconnect = true;
    a.stream.give_up_after = Seconds(Number(option, word, 0.001, 10 * kMaxSeconds));
  };
  options["--timeout"] = [](auto& a, auto& option, auto& word) {
    a.client.timeout = Seconds(Number(option, word, 0.001, kMaxSeconds));
  };
}

void AddConnectionOptions(std::map<std::string, Option>& options) {
  options["--target"] = [](auto& a, auto&, auto& word) { a.client.target = word; };
  options["--tls-ca"] = [](auto& a, auto&, auto& word) {
    Tls(a).root_certificates = ReadText(word);
  };
  options["--tls-certificate"] = [](auto& a, auto&, auto& word) {
    Tls(a).certificate = ReadText(word);
  };
  options["--tls-key"] = [](auto& a, auto&, auto& word) { Tls(a).key = ReadText(word); };
  options["--tls-name"] = [](auto& a, auto&, auto& word) { Tls(a).server_name = word; };
  options["--token-file"] = [](auto& a, auto&, auto& word) {
    a.client.token = WithoutLineEnd(ReadText(word));
  };
}

const std::map<std::string, Option>& Options() {
  static const std::map<std::string, Option> options = [] {
    std::map<std::string, Option> all;
    AddSendingOptions(all);
    AddStreamOptions(all);
    AddConnectionOptions(all);
    return all;
  }();
  return options;
}

}  // namespace

Arguments ParseArguments(const std::vector<std::string>& words) {
  Arguments arguments;
  if (const char* token = std::getenv("VOXGATE_TOKEN")) arguments.client.token = token;
  bool only_files = false;
  for (size_t i = 0; i < words.size(); ++i) {
    std::string word = words[i];
    if (only_files || word.size() < 2 || word[0] != '-') {
      arguments.files.push_back(word);
      continue;
    }
    if (word == "--") {
      only_files = true;
      continue;
    }
    if (const auto flag = Flags().find(word); flag != Flags().end()) {
      flag->second(arguments);
      continue;
    }
    const size_t equals = word.find('=');
    std::optional<std::string> value;
    if (equals != std::string::npos) {
      value = word.substr(equals + 1);
      word.resize(equals);
    }
    const auto option = Options().find(word);
    if (option == Options().end()) Wrong("there is no option " + word);
    if (!value.has_value() && i + 1 == words.size()) Wrong(word + " needs a value");
    option->second(arguments, word, value.has_value() ? *value : words[++i]);
  }
  if (!arguments.help && arguments.files.empty()) Wrong("nothing to send: give a FILE");
  if (!arguments.rate.has_value() && arguments.stream.max_in_flight == 0) {
    arguments.stream.max_in_flight = 1;
  }
  return arguments;
}

}  // namespace voxgate
