// A child process that answers commands: started with a channel and a closed world of descriptors, spoken to
// under deadlines, its output capped, and killed with all its descendants when it is no longer wanted.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/result.h"
#include "io/json.h"

namespace nemoforge::verify {

using Clock = std::chrono::steady_clock;

// How a child is started. It sees: descriptor 0 /dev/null (or stdin_fd), 1 and 2 capped pipes, 3 its channel,
// 4 shared_fd if there is one, and nothing else of ours.
struct WorkerCommand {
  std::vector<std::string> argv;         // argv[0] is a path
  std::vector<std::string> environment;  // NAME=VALUE, complete
  int stdin_fd = -1;
  int shared_fd = -1;
  int64_t max_address_space_bytes = 0;  // 0: no limit
  int64_t max_data_bytes = 0;           // of memory of its own that it may write to; 0: no limit
  int64_t max_cpu_seconds = 0;
};

// Why an exchange brought no answer.
enum class ExchangeFailure { kTimeout, kDied, kMalformed, kFlood };

// A message with its raw bytes.
struct Frame {
  io::Json message;
  std::string blob;
};

// What is left to say of a child that is gone.
struct ExitStatus {
  bool signalled = false;
  int code = 0;  // the exit code or the signal
};

class WorkerProcess {
 public:
  WorkerProcess() = default;
  WorkerProcess(WorkerProcess&& other) noexcept;
  WorkerProcess& operator=(WorkerProcess&& other) noexcept;
  WorkerProcess(const WorkerProcess&) = delete;
  WorkerProcess& operator=(const WorkerProcess&) = delete;
  ~WorkerProcess();

  [[nodiscard]] static Result<WorkerProcess> start(const WorkerCommand& command);

  // Sends a command and waits for its answer; max_blob_bytes bounds what the answer may carry.
  [[nodiscard]] tl::expected<Frame, ExchangeFailure> exchange(const io::Json& message, std::string_view blob,
                                                              Clock::duration timeout,
                                                              size_t max_blob_bytes = size_t{1} << 30);
  // Sends without waiting for an answer; receive() takes it.
  [[nodiscard]] tl::expected<void, ExchangeFailure> send(const io::Json& message, std::string_view blob,
                                                         Clock::duration timeout);
  [[nodiscard]] tl::expected<Frame, ExchangeFailure> receive(Clock::duration timeout, size_t max_blob_bytes);

  // Waits for the child to end by itself, draining its output; kTimeout where it does not.
  [[nodiscard]] tl::expected<ExitStatus, ExchangeFailure> wait(Clock::duration timeout);
  // SIGKILL to the child and everything that it started, then reaps it. Idempotent.
  ExitStatus kill();

  // The first 64 KiB that the child wrote.
  [[nodiscard]] const std::string& standard_output() const { return output_[0].text; }
  [[nodiscard]] const std::string& standard_error() const { return output_[1].text; }
  // Starts the capture anew, for a child that serves many.
  void forget_output();

 private:
  struct Capture {
    int fd = -1;
    std::string text;
    int64_t total_bytes = 0;
  };
  // Waits until the channel can be read (or written), draining the output meanwhile.
  [[nodiscard]] tl::expected<void, ExchangeFailure> wait_for_channel(short events,
                                                                     Clock::time_point deadline);
  [[nodiscard]] tl::expected<void, ExchangeFailure> read_exactly(char* bytes, size_t size,
                                                                 Clock::time_point deadline);
  void drain(Capture& capture);
  void close_all();

  int pid_ = -1;
  int channel_ = -1;
  Capture output_[2];
  ExitStatus status_;
};

}  // namespace nemoforge::verify
