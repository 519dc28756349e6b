#include "verify/worker_process.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace nemoforge::verify {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::StartsWith;

WorkerProcess start_shell(const std::string& script) {
  WorkerCommand command;
  command.argv = {"/bin/bash", "-c", script};
  command.environment = {"PATH=/usr/bin:/bin"};
  auto worker = WorkerProcess::start(command);
  EXPECT_TRUE(worker.has_value()) << worker.error().to_string();
  return std::move(*worker);
}

TEST(worker_process, exchanges_frames) {
  // Reads one frame whatever it is and answers {"a":1} with the blob "xyz": lengths 7 and 3, little-endian.
  WorkerProcess worker = start_shell(
      R"(head -c 12 <&3 >/dev/null; printf '\x07\x00\x00\x00\x03\x00\x00\x00{"a":1}xyz' >&3; sleep 60)");
  const auto answer = worker.exchange({{"b", 2}}, "", seconds(20));
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(answer->message["a"], 1);
  EXPECT_EQ(answer->blob, "xyz");
}

TEST(worker_process, silence_is_a_timeout) {
  WorkerProcess worker = start_shell("sleep 60");
  const auto answer = worker.exchange({{"b", 2}}, "", milliseconds(200));
  ASSERT_FALSE(answer.has_value());
  EXPECT_EQ(answer.error(), ExchangeFailure::kTimeout);
}

TEST(worker_process, death_is_told_with_its_signal) {
  WorkerProcess worker = start_shell("echo words; kill -SEGV $$");
  const auto answer = worker.receive(seconds(20), 100);
  ASSERT_FALSE(answer.has_value());
  EXPECT_EQ(answer.error(), ExchangeFailure::kDied);
  const ExitStatus status = worker.kill();
  EXPECT_TRUE(status.signalled);
  EXPECT_EQ(status.code, SIGSEGV);
  EXPECT_EQ(worker.standard_output(), "words\n");
}

TEST(worker_process, lying_lengths_are_malformed) {
  WorkerProcess worker = start_shell(R"(printf '\xff\xff\xff\x7f\x00\x00\x00\x00{}' >&3; sleep 60)");
  EXPECT_EQ(worker.receive(seconds(20), 100).error(), ExchangeFailure::kMalformed);
  WorkerProcess large = start_shell(R"(printf '\x02\x00\x00\x00\x65\x00\x00\x00{}' >&3; sleep 60)");
  EXPECT_EQ(large.receive(seconds(20), 100).error(), ExchangeFailure::kMalformed);
}

TEST(worker_process, what_is_no_object_is_malformed) {
  for (const char* text : {"[1]", "{x}", "nul"}) {
    WorkerProcess worker =
        start_shell(std::string(R"(printf '\x03\x00\x00\x00\x00\x00\x00\x00)") + text + "' >&3; sleep 60");
    EXPECT_EQ(worker.receive(seconds(20), 100).error(), ExchangeFailure::kMalformed) << text;
  }
}

TEST(worker_process, endless_output_is_a_flood_and_little_of_it_is_kept) {
  WorkerProcess worker = start_shell("yes");
  const auto answer = worker.receive(seconds(60), 100);
  ASSERT_FALSE(answer.has_value());
  EXPECT_EQ(answer.error(), ExchangeFailure::kFlood);
  EXPECT_EQ(worker.standard_output().size(), size_t{64} << 10);
}

TEST(worker_process, sees_no_descriptor_of_ours) {
  WorkerProcess worker = start_shell("ls -l /proc/self/fd | grep -c -e socket -e pipe -e null; echo $$");
  ASSERT_TRUE(worker.wait(seconds(20)).has_value());
  // Standard input, two pipes and the channel, and the pipe of this command line itself.
  EXPECT_THAT(worker.standard_output(), StartsWith("4\n"));
}

TEST(worker_process, kill_takes_the_descendants_along) {
  WorkerProcess worker = start_shell("(trap '' TERM HUP; sleep 100) & echo started; wait");
  EXPECT_FALSE(worker.receive(milliseconds(300), 100).has_value());
  worker.kill();
  // The descendants held the output pipes: they are at their end only when all are gone.
  const auto ended = worker.wait(seconds(20));
  EXPECT_TRUE(ended.has_value());
  EXPECT_EQ(worker.standard_output(), "started\n");
}

TEST(worker_process, program_that_is_not_there_exits_127) {
  WorkerCommand command;
  command.argv = {"/no/such/program"};
  auto worker = WorkerProcess::start(command);
  ASSERT_TRUE(worker.has_value());
  const auto status = worker->wait(seconds(20));
  ASSERT_TRUE(status.has_value());
  EXPECT_EQ(status->code, 127);
}

}  // namespace
}  // namespace nemoforge::verify
