// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// The program's command line, its percentiles and what it prints and writes.
#include "report.h"

#include <sstream>
#include <string>
#include <vector>

#include "arguments.h"
#include "check.h"
#include "npy.h"

namespace voxgate {
namespace {

Arguments Parse(const std::vector<std::string>& words) { return ParseArguments(words); }

FrameResult Result(const std::string& frame_id, uint64_t execute_us) {
  FrameResult result;
  result.frame_id = frame_id;
  result.timing.execute_us = execute_us;
  return result;
}

FrameFailure Failure(const std::string& frame_id, StatusCode code) {
  return {frame_id, code, "why\nnot", Seconds{0}};
}

}  // namespace

TEST(PercentilesAreNumpys) {
  const std::vector<double> values = {1, 2, 4, 8};
  CHECK_EQ(Percentile(values, 0), 1);
  CHECK_EQ(Percentile(values, 50), 3);
  CHECK_EQ(Percentile(values, 100), 8);
  CHECK_EQ(Percentile({5}, 99), 5);
}

TEST(OptionsAreRead) {
  const Arguments arguments = Parse({"a.bin", "--rate=10", "--policy", "latest", "--window", "3",
                                     "--deadline", "0.5", "--reconnect", "20", "--", "--b.bin"});
  CHECK(arguments.files == (std::vector<std::string>{"a.bin", "--b.bin"}));
  CHECK_EQ(*arguments.rate, 10);
  CHECK(arguments.stream.policy == QueuePolicy::kLatest);
  CHECK_EQ(arguments.stream.max_in_flight, 3U);
  CHECK_EQ(arguments.stream.frame_deadline->count(), 0.5);
  CHECK(arguments.stream.reconnect);
  CHECK(!arguments.client.tls.has_value());
}

TEST(WithoutARateOneFrameFollowsTheOther) {
  CHECK_EQ(Parse({"a.bin"}).stream.max_in_flight, 1U);
  CHECK_EQ(Parse({"a.bin", "--rate", "5"}).stream.max_in_flight, 0U);
}

TEST(WrongOptionsSayWhatIsRight) {
  CHECK_THROWS(UsageError, "give a FILE", Parse({}));
  CHECK_THROWS(UsageError, "no option --rat", Parse({"--rat", "1", "a.bin"}));
  CHECK_THROWS(UsageError, "--rate needs a value", Parse({"a.bin", "--rate"}));
  for (const char* value : {"0", "-1", "nan", "inf", "1e9", "", "ten", "10x"}) {
    CHECK_THROWS(UsageError, "expected a number from 0.01", Parse({"a.bin", "--rate", value}));
  }
  for (const char* value : {"0", "-1", "1.5", "99999999999999999999", ""}) {
    CHECK_THROWS(UsageError, "expected a whole number from 1", Parse({"a.bin", "--loop", value}));
  }
  CHECK_THROWS(UsageError, "expected fifo or latest", Parse({"a.bin", "--policy", "best"}));
  CHECK_THROWS(FileError, "/no/such", Parse({"a.bin", "--tls-ca", "/no/such"}));
}

TEST(EveryFrameHasALine) {
  std::ostringstream out;
  Report report({}, false, true, out);
  report.Sent("0", "a.bin", 12, 100);
  report.Sent("1", "b.bin", 13, 100);
  report.Add(Result("0", 2'500));
  report.Add(Failure("1", StatusCode::kInvalidArgument));
  report.Print(2);
  CHECK_EQ(report.num_failed(), 1U);
  for (const char* part : {"2.50", "a.bin", "INVALID_ARGUMENT: why not", "p99",
                           "2 frames sent in 2.0 s: 1 ok, 1 failed; 0.5 frames/s"}) {
    if (out.str().find(part) == std::string::npos) CHECK_EQ(out.str(), part);
  }
}

TEST(ReplacedFramesFailOnlyWhereNoneIsReplaced) {
  std::ostringstream out;
  Report latest({}, true, false, out);
  latest.Add(Failure("0", StatusCode::kAborted));
  CHECK_EQ(latest.num_failed(), 0U);
  Report fifo({}, false, false, out);
  fifo.Add(Failure("0", StatusCode::kAborted));
  CHECK_EQ(fifo.num_failed(), 1U);
}

TEST(JsonSurvivesAnyMessage) {
  std::ostringstream out;
  Report report({}, false, false, out);
  report.Add(FrameFailure{"0", StatusCode::kInternal, "\xFF\"", Seconds{0}});
  report.PrintJson(0);
  CHECK(out.str().find("\"INTERNAL\": 1") != std::string::npos);
}

TEST(NamesFromAServerStayInTheirFolder) {
  CHECK_EQ(FileNamePart("../../etc/passwd"), "______etc_passwd");
  CHECK_EQ(FileNamePart("site_features-2"), "site_features-2");
  CHECK_EQ(FileNamePart(std::string(300, 'x')).size(), 100U);
}

}  // namespace voxgate
