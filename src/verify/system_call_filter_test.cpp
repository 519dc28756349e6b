#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "base/temporary_folder.h"
#include "verify/candidate_session.h"
#include "verify/sandbox.h"
#include "verify/workbench.h"

namespace nemoforge::verify {
namespace {

using std::chrono::seconds;
using ::testing::HasSubstr;
using ::testing::StartsWith;

// Asks the kernel for each call by its number, with arguments that would succeed, and prints those that it
// does not refuse with EPERM.
constexpr const char* kTryCalls = R"py(
import ctypes, sys
import seccomp_filter
assert seccomp_filter.install()
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
limit = (ctypes.c_ulong * 2)(64, 64)
old = (ctypes.c_ulong * 2)()
text = ctypes.create_string_buffer(b"/x")
room = ctypes.create_string_buffer(256)
def refused(number, *arguments):
    return libc.syscall(ctypes.c_long(number), *arguments) == -1 and ctypes.get_errno() == 1
calls = {
    "shmget": (29, 0, ctypes.c_long(1 << 20), 0o1600), "semget": (64, 0, 1, 0o1600), "msgget": (68, 0, 0o1600),
    "mq_open": (240, text, 0o102, 0o600, None), "memfd_create": (319, text, 0), "memfd_secret": (447, 0),
    "prlimit64": (302, 0, 7, ctypes.byref(limit), None), "setrlimit": (160, 7, ctypes.byref(limit)),
    "mount_setattr": (442, -100, text, 0, room, ctypes.c_long(32)), "fspick": (433, -100, text, 0),
    "mount": (165, text, text, text, 0, None), "unshare": (272, 0), "clone": (56, 17, None, None, None, None),
    "fork": (57,), "clone3": (435, room, ctypes.c_long(64)), "execve": (59, text, None, None),
    "ptrace": (101, 0, 0, None, None), "kill": (62, 1, 0), "tgkill": (234, 1, 1, 0), "rt_sigaction": (13, 14, None, room, ctypes.c_long(8)),
    "alarm": (37, 0), "setitimer": (38, 0, None, None), "timer_create": (222, 0, None, room), "pipe": (22, room),
    "socket": (41, 1, 1, 0), "sendmsg": (46, 3, room, 0), "recvmsg": (47, 3, room, 0), "io_uring_setup": (425, 1, room),
    "userfaultfd": (323, 0), "bpf": (321, 0, room, 8), "seccomp": (317, 2, 0, None), "prctl(PR_SET_SECCOMP)": (157, 22, 2, None),
    "prctl(PR_SET_DUMPABLE)": (157, 4, 1), "ioctl(TIOCSTI)": (16, 0, 0x5412, text), "symlink": (88, text, text), "write to the channel": (1, 3, text, ctypes.c_long(1)),
    "write to the channel, high bits": (1, ctypes.c_long((1 << 32) + 3), text, ctypes.c_long(1)),
    "read the channel": (0, 3, room, ctypes.c_long(1)), "readv": (19, 3, room, 0), "writev": (20, 3, room, 0),
    "dup": (32, 3), "fcntl(F_DUPFD)": (72, 3, 0, 10), "sendto elsewhere": (44, 1, text, ctypes.c_long(1), 0, None, 0),
    "of tomorrow": (1000,),
}
print([name for name, call in calls.items() if not refused(*call)])
assert libc.syscall(ctypes.c_long(44), 3, text, ctypes.c_long(1), 0, None, 0) == 1  # sendto the channel
assert libc.syscall(ctypes.c_long(302), 0, 7, None, ctypes.byref(old)) == 0  # getrlimit
print("done")
)py";

// The processes below this one, by what the kernel says.
std::vector<std::string> descendants() {
  std::map<std::string, std::string> parents;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    if (!isdigit(entry.path().filename().string().front())) continue;
    std::ifstream file(entry.path() / "stat");
    std::string text((std::istreambuf_iterator<char>(file)), {});
    const size_t name_end = text.rfind(") ");
    if (name_end == std::string::npos) continue;
    const size_t parent = name_end + 4;
    parents[entry.path().filename()] = text.substr(parent, text.find(' ', parent) - parent);
  }
  std::vector<std::string> found;
  for (const auto& [process, parent] : parents) {
    for (std::string above = parent; parents.contains(above); above = parents[above]) {
      if (above == std::to_string(getpid())) found.push_back(process);
    }
  }
  return found;
}

class SystemCallFilterTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto sandbox = Sandbox::find();
    ASSERT_TRUE(sandbox.has_value()) << sandbox.error().to_string();
    sandbox_ = *sandbox;
    auto python = find_python_environment();
    ASSERT_TRUE(python.has_value()) << python.error().to_string();
    python_ = *python;
  }

  Sandbox sandbox_ = Sandbox::none();
  PythonEnvironment python_;
};

TEST_F(SystemCallFilterTest, refuses_what_computing_does_not_need) {
  const std::string script = "import sys; sys.path.insert(0, '" + python_.scripts + "')\n" + kTryCalls;
  auto process = WorkerProcess::start(sandbox_.wrap({python_.interpreter, "-c", script}, python_, {}));
  ASSERT_TRUE(process.has_value());
  ASSERT_TRUE(process->wait(seconds(60)).has_value());
  EXPECT_EQ(process->standard_output(), "[]\ndone\n") << process->standard_error();
}

// A descriptor that is no device: the requests of a GPU's driver reach the kernel, which does not know them
// there; others do not.
TEST_F(SystemCallFilterTest, lets_the_requests_of_a_gpu_s_driver_through_and_no_others) {
  const std::string script = "import sys; sys.path.insert(0, '" + python_.scripts + R"py(')
import errno, fcntl, seccomp_filter
file = open("/dev/null")
assert seccomp_filter.install(seccomp_filter.GPU)
def answer(request):
    try:
        fcntl.ioctl(file, request, bytes(64))
        return "done"
    except OSError as failure:
        return errno.errorcode[failure.errno]
print([answer(r) for r in (0xC020462A, 0xC0384657, 0x30000001, 0x30000002, 0x19, 0x21)])
print([answer(r) for r in (0x5412, 0x541C, 0xC0204762, 0x30000003, 0x40086602)])
)py";
  auto process = WorkerProcess::start(sandbox_.wrap({python_.interpreter, "-c", script}, python_, {}));
  ASSERT_TRUE(process.has_value());
  ASSERT_TRUE(process->wait(seconds(60)).has_value());
  EXPECT_EQ(process->standard_output(),
            "['ENOTTY', 'ENOTTY', 'ENOTTY', 'ENOTTY', 'ENOTTY', 'ENOTTY']\n"
            "['EPERM', 'EPERM', 'EPERM', 'EPERM', 'EPERM']\n")
      << process->standard_error();
}

TEST_F(SystemCallFilterTest, covers_every_thread_of_a_worker) {
  Workbench workbench(python_, sandbox_);
  auto candidate = workbench.take_candidate_process("this is never loaded");
  ASSERT_TRUE(candidate.has_value()) << candidate.error().to_string();
  ASSERT_TRUE(candidate->arena.set_size(1 << 20));
  Evidence evidence;
  CandidateSession session(python_, sandbox_, evidence);
  session.begin(candidate->path, std::move(candidate->process));
  io::Json record;
  const Status met = session.greet({{"arena_bytes", candidate->arena.size()}}, record);
  ASSERT_TRUE(met) << met.error().to_string();
  EXPECT_EQ(record["isolation"], io::Json::parse(R"({"namespaces": true, "system_call_filter": true})"));
  EXPECT_THAT(record["versions"]["torch"].get<std::string>(), StartsWith(python_.torch_version));
  // By the kernel's word, seen from outside, not by the worker's.
  std::vector<std::string> threads;
  for (const std::string& process : descendants()) {
    std::ifstream command(std::filesystem::path("/proc") / process / "comm");
    std::string name;
    if (!std::getline(command, name) || name == "bwrap") continue;
    for (const auto& thread : std::filesystem::directory_iterator("/proc/" + process + "/task")) {
      std::ifstream file(thread.path() / "status");
      std::string text((std::istreambuf_iterator<char>(file)), {});
      EXPECT_THAT(text, HasSubstr("\nSeccomp:\t2\n")) << name << ' ' << thread.path();
      EXPECT_THAT(text, HasSubstr("\nNoNewPrivs:\t1\n"));
      threads.push_back(thread.path());
    }
  }
  EXPECT_FALSE(threads.empty());
}

TEST_F(SystemCallFilterTest, a_sandbox_without_it_is_no_sandbox) {
  EXPECT_TRUE(sandbox_.check_filter(python_));
  // The same worker scripts on a machine that has no filter to offer.
  const TemporaryFolder folder = TemporaryFolder::create().value();
  const std::string scripts = folder.path("verifier");
  std::filesystem::copy(python_.scripts, scripts, std::filesystem::copy_options::recursive);
  const std::string filter = scripts + "/seccomp_filter.py";
  std::ifstream original(filter);
  std::string text((std::istreambuf_iterator<char>(original)), {});
  original.close();
  const std::string processor = "platform.machine()";
  for (size_t at = text.find(processor); at != std::string::npos; at = text.find(processor)) {
    text.replace(at, processor.size(), "'riscv64'");
  }
  std::ofstream(filter) << text;
  PythonEnvironment elsewhere = python_;
  elsewhere.scripts = scripts;
  const Status refused = sandbox_.check_filter(elsewhere);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, ErrorCode::kUnsupported);
  EXPECT_THAT(refused.error().message, HasSubstr("no system-call filter for riscv64"));
  EXPECT_THAT(refused.error().hint, HasSubstr("--no-sandbox"));
  // And where nothing had asked before, the judge's own greeting does.
  Workbench workbench(elsewhere, sandbox_);
  auto candidate = workbench.take_candidate_process("this is never loaded");
  ASSERT_TRUE(candidate.has_value()) << candidate.error().to_string();
  ASSERT_TRUE(candidate->arena.set_size(1 << 20));
  Evidence evidence;
  CandidateSession session(elsewhere, sandbox_, evidence);
  session.begin(candidate->path, std::move(candidate->process));
  io::Json record;
  const Status met = session.greet({{"arena_bytes", candidate->arena.size()}}, record);
  ASSERT_FALSE(met.has_value());
  EXPECT_THAT(met.error().message, StartsWith("the sandbox has no system-call filter"));
  EXPECT_EQ(record["isolation"]["system_call_filter"], false);
}

}  // namespace
}  // namespace nemoforge::verify
