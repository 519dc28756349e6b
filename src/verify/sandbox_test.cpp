#include "verify/sandbox.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "base/temporary_folder.h"

namespace nemoforge::verify {
namespace {

using std::chrono::seconds;
using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

class SandboxTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto sandbox = Sandbox::find();
    ASSERT_TRUE(sandbox.has_value()) << sandbox.error().to_string();
    sandbox_ = *sandbox;
    std::filesystem::create_directories(dir_ + "/scripts");
    std::ofstream(dir_ + "/secret") << "SECRET";
    std::ofstream(dir_ + "/shown") << "SHOWN";
    python_.scripts = dir_ + "/scripts";
  }

  // Both outputs of a shell command in the sandbox.
  std::string run(const std::string& script) {
    auto command = sandbox_.wrap({"/bin/bash", "-c", script}, python_, {{dir_ + "/shown", dir_ + "/shown"}});
    command.max_address_space_bytes = int64_t{2} << 30;
    auto process = WorkerProcess::start(command);
    EXPECT_TRUE(process.has_value()) << process.error().to_string();
    const auto status = process->wait(seconds(60));
    EXPECT_TRUE(status.has_value());
    process->kill();
    return process->standard_output() + process->standard_error();
  }

  Sandbox sandbox_ = Sandbox::none();
  PythonEnvironment python_;
  TemporaryFolder folder_ = TemporaryFolder::create().value();
  std::string dir_ = folder_.path();
};

TEST_F(SandboxTest, reads_what_it_was_given_and_nothing_else_of_ours) {
  EXPECT_EQ(run("cat " + dir_ + "/shown"), "SHOWN");
  EXPECT_THAT(run("cat " + dir_ + "/secret"), HasSubstr("No such file"));
  for (const char* path : {"/etc/passwd", "/root", "/home", "/var/log", "/sys/class/net"}) {
    EXPECT_THAT(run("ls -A " + std::string(path)), HasSubstr("No such file")) << path;
  }
}

TEST_F(SandboxTest, cannot_write_to_the_system_or_to_what_it_was_given) {
  EXPECT_THAT(run("echo x > " + dir_ + "/shown"), HasSubstr("Read-only"));
  EXPECT_THAT(run("echo x > /usr/x"), HasSubstr("Read-only"));
  EXPECT_THAT(run("echo x > /x"), HasSubstr("Read-only"));
  const std::string file = "/tmp/" + std::filesystem::path(dir_).filename().string() + "_of_the_sandbox";
  EXPECT_EQ(run("echo x > " + file + " && cat " + file), "x\n");
  EXPECT_FALSE(std::filesystem::exists(file));
}

TEST_F(SandboxTest, has_no_network) {
  EXPECT_EQ(run("tail -n +3 /proc/net/dev | grep -v ' lo:' | grep -v '^ *lo:'"), "");
  EXPECT_THAT(run("exec 5<>/dev/tcp/127.0.0.1/22"), HasSubstr("Connection refused"));
  EXPECT_THAT(run("exec 5<>/dev/tcp/1.1.1.1/53"), HasSubstr("unreachable"));
}

TEST_F(SandboxTest, sees_neither_our_processes_nor_our_environment) {
  setenv("NEMOFORGE_TEST_SECRET", "SECRET", 1);
  EXPECT_THAT(run("tr '\\0' '\\n' < /proc/self/environ; env"), Not(HasSubstr("SECRET")));
  EXPECT_THAT(run("cat /proc/[0-9]*/cmdline | tr '\\0' ' '"), Not(HasSubstr("verify_test")));
  EXPECT_EQ(run("kill -9 " + std::to_string(getpid()) + " 2>/dev/null || echo refused"), "refused\n");
}

TEST_F(SandboxTest, is_nobody_without_capabilities) {
  EXPECT_EQ(run("id -u"), "65534\n");
  EXPECT_THAT(run("grep CapEff /proc/self/status"), HasSubstr("0000000000000000"));
}

TEST_F(SandboxTest, memory_beyond_the_limit_is_refused) {
  EXPECT_THAT(run("head -c 100G /dev/zero | tail -c 99G"), HasSubstr("memory exhausted"));
}

TEST_F(SandboxTest, files_in_memory_are_bounded) {
  // /dev/shm would be half of the machine's memory, and what is in it counts in no process's limit.
  EXPECT_EQ(run("head -c 1000000 /dev/zero > /dev/shm/x 2>/dev/null; stat -c %s /dev/shm/x"), "65536\n");
  EXPECT_THAT(run("echo x > /dev/x"), HasSubstr("Read-only"));
  // One file is held to 1 GiB by its own limit, several of them by the file system's size.
  EXPECT_THAT(run("for i in 1 2 3; do head -c 600M /dev/zero > /tmp/$i; done; du -sm /tmp"),
              AllOf(HasSubstr("No space left"), ContainsRegex("102[45]\t/tmp")));
}

TEST_F(SandboxTest, goes_first_where_memory_runs_out) {
  EXPECT_EQ(run("cat /proc/self/oom_score_adj"), "1000\n");
}

TEST_F(SandboxTest, kill_ends_everything_inside) {
  auto command = sandbox_.wrap(
      {"/bin/bash", "-c", "for i in 1 2 3 4; do setsid sleep 1000 & done; echo up; wait"}, python_, {});
  auto process = WorkerProcess::start(command);
  ASSERT_TRUE(process.has_value());
  EXPECT_FALSE(process->receive(std::chrono::milliseconds(500), 10).has_value());
  process->kill();
  EXPECT_TRUE(process->wait(seconds(20)).has_value());  // all holders of the pipes are gone
  EXPECT_EQ(process->standard_output(), "up\n");
}

TEST_F(SandboxTest, shows_the_nodes_of_one_gpu_and_none_without) {
  const std::vector<std::string> with_gpu = sandbox_.wrap({"/usr/bin/true"}, python_, {}, 1).argv;
  for (const char* node : {"/dev/nvidia1", "/dev/nvidiactl", "/dev/nvidia-uvm"}) {
    EXPECT_THAT(with_gpu, ::testing::Contains(node));
  }
  for (const char* other : {"/dev/nvidia0", "/dev/nvidia-uvm-tools", "/sys", "TRITON_INTERPRET"}) {
    EXPECT_THAT(with_gpu, Not(::testing::Contains(other)));
  }
  EXPECT_THAT(sandbox_.wrap({"/usr/bin/true"}, python_, {}).argv,
              Not(::testing::Contains(HasSubstr("nvidia"))));
}

}  // namespace
}  // namespace nemoforge::verify
