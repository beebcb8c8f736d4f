// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Streams against a server in this process that each test tells what to do.
#include <chrono>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "check.h"
#include "scripted_server.h"
#include "voxgate_client/client.h"

namespace voxgate {
namespace {

Frame MakeFrame(const std::string& frame_id = "", size_t points = 1) {
  Frame frame;
  frame.frame_id = frame_id;
  frame.payload = Points{4, std::vector<float>(4 * points)};
  return frame;
}

// "id version" of a result, "id CODE" of a failure, "end" of none.
std::string Receive(Stream& stream) {
  const auto answer = stream.Receive(kLimit);
  if (!answer.has_value()) return "end";
  if (const auto* result = std::get_if<FrameResult>(&*answer)) {
    return result->frame_id + " " + result->version;
  }
  const auto& failure = std::get<FrameFailure>(*answer);
  return failure.frame_id + " " + Name(failure.code);
}

Script Echo() {
  return [](ServerCall& call) {
    call.Accept();
    call.AnswerAll();
    return grpc::Status::OK;
  };
}

StreamOptions Reconnecting() {
  StreamOptions options;
  options.reconnect = true;
  options.first_pause = Seconds{0.01};
  options.longest_pause = Seconds{0.05};
  options.give_up_after = kLimit;
  return options;
}

}  // namespace

TEST(EveryFrameIsAnsweredInOrder) {
  Server server(Echo());
  auto stream = server.MakeClient().OpenStream("unet");
  CHECK_EQ(stream->model().name, "unet");
  for (int i = 0; i < 50; ++i) CHECK_EQ(stream->Send(MakeFrame()), std::to_string(i));
  stream->CloseSending();
  for (int i = 0; i < 50; ++i) CHECK_EQ(Receive(*stream), std::to_string(i) + " 1");
  CHECK_EQ(Receive(*stream), "end");
  CHECK_EQ(Receive(*stream), "end");
  CHECK(stream->end()->code() == StatusCode::kOk);
  CHECK_THROWS(Error, "sending was closed", stream->Send(MakeFrame()));
}

TEST(OptionsReachTheServer) {
  v1::StreamOpen open;
  std::string token;
  Server server([&](ServerCall& call) {
    const auto found = call.context->client_metadata().find("authorization");
    if (found != call.context->client_metadata().end()) {
      token.assign(found->second.data(), found->second.size());
    }
    call.Accept();
    open = call.open;
    call.AnswerAll();
    return grpc::Status::OK;
  });
  ClientOptions client = server.Options();
  client.token = "secret";
  StreamOptions options;
  options.version = "7";
  options.outputs = {"label"};
  options.policy = QueuePolicy::kLatest;
  options.priority = 3;
  options.frame_deadline = Seconds{0.25};
  auto stream = Client(client).OpenStream("unet", options);
  stream->CloseSending();
  CHECK_EQ(Receive(*stream), "end");
  CHECK_EQ(token, "Bearer secret");
  CHECK_EQ(open.version(), "7");
  CHECK_EQ(open.outputs(0), "label");
  CHECK_EQ(open.policy(), v1::LATEST);
  CHECK_EQ(open.priority(), 3);
  CHECK_EQ(open.frame_deadline().nanos(), 250'000'000);
}

TEST(ARefusedStreamSaysWhy) {
  Server server([](ServerCall&) { return grpc::Status(grpc::StatusCode::NOT_FOUND, "no model"); });
  for (const bool reconnect : {false, true}) {
    StreamOptions options = Reconnecting();
    options.reconnect = reconnect;
    CHECK_THROWS(Error, "NOT_FOUND: no model", server.MakeClient().OpenStream("other", options));
  }
}

TEST(ASilentServerIsGivenUp) {
  Event over;
  Server server([&](ServerCall& call) {
    call.Next();
    over.Wait();
    return grpc::Status::OK;
  });
  ClientOptions options = server.Options();
  options.timeout = Seconds{0.05};
  CHECK_THROWS(Error, "DEADLINE_EXCEEDED", Client(options).OpenStream("unet"));
  over.Set();
}

TEST(AnAbsentServerIsUnavailable) {
  ClientOptions options;
  options.target = "127.0.0.1:1";
  CHECK_THROWS(Error, "UNAVAILABLE", Client(options).OpenStream("unet"));
  CHECK_THROWS(Error, "UNAVAILABLE", Client(options).ListModels());
  options.timeout = Seconds{0.1};
  CHECK_THROWS(Error, "DEADLINE_EXCEEDED", Client(options).OpenStream("unet", Reconnecting()));
}

TEST(ErrorsAnswerTheirFrame) {
  Server server([](ServerCall& call) {
    call.Accept();
    call.Fail(call.Next(), StatusCode::kInvalidArgument);
    call.Fail("never sent", StatusCode::kInternal);
    call.Answer("nor this");
    call.AnswerAll();
    return grpc::Status::OK;
  });
  auto stream = server.MakeClient().OpenStream("unet");
  stream->Send(MakeFrame("bad"));
  stream->Send(MakeFrame("good"));
  stream->CloseSending();
  CHECK_EQ(Receive(*stream), "bad INVALID_ARGUMENT");
  CHECK_EQ(Receive(*stream), "good 1");
  CHECK_EQ(Receive(*stream), "end");
  const auto notices = stream->TakeNotices();
  CHECK_EQ(notices.size(), 2U);
  CHECK_EQ(notices[0].kind, "UNMATCHED");
}

TEST(AnUnansweredIdIsTakenOnlyOnce) {
  Server server([](ServerCall& call) {
    call.Accept();
    const std::string id = call.Next();
    call.Next();
    call.Answer(id);
    call.AnswerAll();
    return grpc::Status::OK;
  });
  auto stream = server.MakeClient().OpenStream("unet");
  stream->Send(MakeFrame("a"));
  CHECK_THROWS(Error, "ALREADY_EXISTS", stream->Send(MakeFrame("a")));
  stream->Send(MakeFrame("b"));
  CHECK_EQ(Receive(*stream), "a 1");
  stream->Send(MakeFrame("a"));
  CHECK_EQ(Receive(*stream), "a 1");
}

TEST(FramesAboveTheServersLimitAreNotSent) {
  Server server([](ServerCall& call) {
    call.Accept(64);
    call.AnswerAll();
    return grpc::Status::OK;
  });
  auto stream = server.MakeClient().OpenStream("unet");
  CHECK_THROWS(Error, "80 bytes, the server takes at most 64", stream->Send(MakeFrame("", 5)));
  stream->Send(MakeFrame("", 4));
  stream->CloseSending();
  CHECK_EQ(Receive(*stream), "0 1");
  CHECK_EQ(Receive(*stream), "end");
}

TEST(SendWaitsForRoomUnderFifo) {
  Event go;
  Server server([&](ServerCall& call) {
    call.Accept();
    const std::string first = call.Next();
    go.Wait();
    call.Answer(first);
    call.AnswerAll();
    return grpc::Status::OK;
  });
  StreamOptions options;
  options.max_in_flight = 1;
  auto stream = server.MakeClient().OpenStream("unet", options);
  CHECK(stream->WaitForRoom(kLimit));
  stream->Send(MakeFrame());
  CHECK(!stream->WaitForRoom(Seconds{0.01}));
  CHECK_THROWS(Error, "1 frames unanswered", stream->Send(MakeFrame(), Seconds{0.01}));
  go.Set();
  stream->Send(MakeFrame(), kLimit);
  CHECK_EQ(Receive(*stream), "0 1");
  CHECK_EQ(Receive(*stream), "1 1");
}

TEST(UnderLatestANewerFrameReplacesTheWaitingOne) {
  Event there;
  Event go;
  Server server([&](ServerCall& call) {
    call.Accept();
    const std::string first = call.Next();
    there.Set();
    go.Wait();
    call.Answer(first);
    call.AnswerAll();
    return grpc::Status::OK;
  });
  StreamOptions options;
  options.policy = QueuePolicy::kLatest;
  options.max_in_flight = 1;
  auto stream = server.MakeClient().OpenStream("unet", options);
  stream->Send(MakeFrame("a"));
  there.Wait();
  stream->Send(MakeFrame("b"));
  stream->Send(MakeFrame("c"));
  CHECK_EQ(Receive(*stream), "b ABORTED");
  go.Set();
  CHECK_EQ(Receive(*stream), "a 1");
  CHECK_EQ(Receive(*stream), "c 1");
}

TEST(FramesCanBeCancelled) {
  Event there;
  Server server([&](ServerCall& call) {
    call.Accept();
    const std::string id = call.Next();
    there.Set();
    CHECK_EQ(call.Next(), "cancel " + id);
    call.Fail(id, StatusCode::kCancelled);
    call.AnswerAll();
    return grpc::Status::OK;
  });
  StreamOptions options;
  options.policy = QueuePolicy::kLatest;
  options.max_in_flight = 1;
  auto stream = server.MakeClient().OpenStream("unet", options);
  stream->Send(MakeFrame("sent"));
  there.Wait();
  stream->Send(MakeFrame("waiting"));
  stream->Cancel("waiting");
  CHECK_EQ(Receive(*stream), "waiting CANCELLED");
  stream->Cancel("unknown");
  stream->Cancel("sent");
  CHECK_EQ(Receive(*stream), "sent CANCELLED");
}

TEST(ABrokenStreamAnswersWhatIsLeft) {
  Server server([](ServerCall& call) {
    call.Accept();
    call.Answer(call.Next());
    call.Next();
    return grpc::Status(grpc::StatusCode::INTERNAL, "engine on fire");
  });
  auto stream = server.MakeClient().OpenStream("unet");
  stream->Send(MakeFrame("a"));
  stream->Send(MakeFrame("b"));
  CHECK_EQ(Receive(*stream), "a 1");
  CHECK_EQ(Receive(*stream), "b UNAVAILABLE");
  CHECK_EQ(Receive(*stream), "end");
  CHECK(stream->end()->code() == StatusCode::kInternal);
  CHECK(!stream->WaitForRoom());
  CHECK_THROWS(Error, "engine on fire", stream->Send(MakeFrame()));
}

TEST(AStatusOfTheServersOwnAnswersAsItIs) {
  Server server([](ServerCall& call) {
    call.Accept();
    call.Next();
    return grpc::Status(grpc::StatusCode::NOT_FOUND, "version 1 is gone");
  });
  auto stream = server.MakeClient().OpenStream("unet", Reconnecting());
  stream->Send(MakeFrame("a"));
  CHECK_EQ(Receive(*stream), "a NOT_FOUND");
  CHECK_EQ(Receive(*stream), "end");
}

TEST(AServerThatEndsWhileAFrameIsWrittenHoldsNothingUp) {
  Server server([](ServerCall& call) {
    call.Accept();
    return grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "enough");  // reads no frame
  });
  for (int i = 0; i < 10; ++i) {
    auto stream = server.MakeClient().OpenStream("unet");
    try {
      for (int frame = 0; frame < 20; ++frame) stream->Send(MakeFrame("", 500'000), kLimit);
    } catch (const Error& error) {
      CHECK_EQ(Name(error.code()), std::string("UNAVAILABLE"));
    }
    for (std::string answer = Receive(*stream); answer != "end"; answer = Receive(*stream)) {
      CHECK(answer.find("UNAVAILABLE") != std::string::npos);
    }
  }
}

TEST(CloseCancelsWhatIsLeft) {
  Server server([](ServerCall& call) {
    call.Accept();
    while (!call.Next().empty()) continue;
    return grpc::Status::OK;
  });
  auto stream = server.MakeClient().OpenStream("unet");
  for (int i = 0; i < 4; ++i) stream->Send(MakeFrame());
  stream->Close();
  std::set<std::string> answers;  // what was not sent yet comes first
  for (int i = 0; i < 4; ++i) answers.insert(Receive(*stream));
  CHECK(answers ==
        (std::set<std::string>{"0 CANCELLED", "1 CANCELLED", "2 CANCELLED", "3 CANCELLED"}));
  CHECK_EQ(Receive(*stream), "end");
  stream->Close();
}

TEST(CloseWhileTheServerReadsNothing) {
  Event over;
  Server server([&](ServerCall& call) {
    call.Accept();
    over.Wait();
    return grpc::Status::OK;
  });
  auto stream = server.MakeClient().OpenStream("unet");
  for (int i = 0; i < 4; ++i) stream->Send(MakeFrame("", 1'000'000), kLimit);
  stream.reset();
  over.Set();
}

TEST(CloseFreesAThreadThatWaits) {
  Server server([](ServerCall& call) {
    call.Accept();
    while (!call.Next().empty()) continue;
    return grpc::Status::OK;
  });
  StreamOptions options;
  options.max_in_flight = 1;
  auto stream = server.MakeClient().OpenStream("unet", options);
  stream->Send(MakeFrame());
  std::string error;
  std::thread sender([&] {
    try {
      stream->Send(MakeFrame());
    } catch (const Error& caught) {
      error = caught.what();
    }
  });
  stream->Close();
  sender.join();
  CHECK(!error.empty());
}

TEST(ABrokenStreamIsOpenedAgain) {
  Server server([](ServerCall& call) {
    call.Accept();
    if (call.number > 1) {
      call.AnswerAll();
      return grpc::Status::OK;
    }
    call.Answer(call.Next());
    call.Next();
    return grpc::Status(grpc::StatusCode::UNAVAILABLE, "gone");
  });
  auto stream = server.MakeClient().OpenStream("unet", Reconnecting());
  stream->Send(MakeFrame("a"));
  CHECK_EQ(Receive(*stream), "a 1");
  stream->Send(MakeFrame("b"));
  CHECK_EQ(Receive(*stream), "b UNAVAILABLE");
  stream->Send(MakeFrame("b"));
  CHECK_EQ(Receive(*stream), "b 2");
  CHECK_EQ(stream->model().version, "2");
  const auto notices = stream->TakeNotices();
  CHECK_EQ(notices.size(), 2U);
  CHECK_EQ(notices[0].kind, "RECONNECTING");
  CHECK_EQ(notices[1].kind, "RECONNECTED");
  stream->CloseSending();
  CHECK_EQ(Receive(*stream), "end");
}

TEST(ADrainingServerIsLeftAndReadOut) {
  Event moved;
  Server server([&](ServerCall& call) {
    call.Accept();
    if (call.number > 1) {
      call.AnswerAll();
      return grpc::Status::OK;
    }
    const std::string id = call.Next();
    call.Drain();
    CHECK_EQ(call.Next(), "");  // half-closed: the frames go elsewhere
    moved.Wait();
    call.Answer(id);
    return grpc::Status::OK;
  });
  auto stream = server.MakeClient().OpenStream("unet", Reconnecting());
  stream->Send(MakeFrame("old"));
  while (stream->model().version != "2") std::this_thread::sleep_for(std::chrono::milliseconds(1));
  stream->Send(MakeFrame("new"));
  CHECK_EQ(Receive(*stream), "new 2");
  moved.Set();
  CHECK_EQ(Receive(*stream), "old 1");
  stream->CloseSending();
  CHECK_EQ(Receive(*stream), "end");
}

TEST(WithoutAServerTheStreamEndsAfterAWhile) {
  Event there;
  auto server = std::make_unique<Server>([&](ServerCall& call) {
    call.Accept();
    call.Next();
    there.Set();
    call.Next();  // until the server goes
    return grpc::Status(grpc::StatusCode::UNAVAILABLE, "gone");
  });
  StreamOptions options = Reconnecting();
  options.policy = QueuePolicy::kLatest;
  options.max_in_flight = 1;
  options.give_up_after = Seconds{0.3};
  auto stream = server->MakeClient().OpenStream("unet", options);
  stream->Send(MakeFrame("sent"));
  there.Wait();
  stream->Send(MakeFrame("waiting"));
  server.reset();
  CHECK_EQ(Receive(*stream), "sent UNAVAILABLE");
  CHECK_EQ(Receive(*stream), "waiting UNAVAILABLE");
  CHECK_EQ(Receive(*stream), "end");
}

TEST(TokensDoNotCrossTheNetworkOpenly) {
  ClientOptions options;
  options.token = "secret";
  for (const char* target : {"localhost:8001", "127.0.0.1:8001", "127.1.2.3:1", "[::1]:8001",
                             "dns:///localhost:8001", "unix:/run/voxgate"}) {
    options.target = target;
    const Client client(options);
  }
  for (const char* target : {"robot.example:8001", "10.0.0.1:8001", "127.0.0.1.example:8001",
                             "localhost.example:8001", "[::2]:8001"}) {
    options.target = target;
    CHECK_THROWS(Error, "unencrypted", const Client client(options));
  }
  options.insecure_token = true;
  const Client allowed(options);
  for (const char* token : {"two words", "line\n", "\x80"}) {
    options.token = token;
    CHECK_THROWS(Error, "printable ASCII", const Client client(options));
  }
}

TEST(OptionsOutOfBoundsAreRefused) {
  const Client client(ClientOptions{});
  StreamOptions options;
  options.max_unsent = 0;
  CHECK_THROWS(Error, "max_unsent is 0", client.OpenStream("unet", options));
  options = {};
  options.longest_pause = Seconds{0};
  CHECK_THROWS(Error, "pauses", client.OpenStream("unet", options));
  ClientOptions half;
  half.tls.emplace().key = "key";
  CHECK_THROWS(Error, "one is missing", const Client other(half));
}

}  // namespace voxgate
