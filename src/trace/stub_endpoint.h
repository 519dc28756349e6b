// For tests: a process that serves the OpenAI API with faults on demand (testdata/openai_stub.py).
#pragma once

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

namespace nemoforge::trace {

class StubEndpoint {
 public:
  // Throws, which fails the test, where the process does not start.
  explicit StubEndpoint(const std::vector<std::string>& arguments = {}) {
    int in[2];
    int out[2];
    if (::pipe2(in, O_CLOEXEC) != 0 || ::pipe2(out, O_CLOEXEC) != 0) return;
    process_ = ::fork();
    if (process_ == 0) {
      ::dup2(in[0], STDIN_FILENO);
      ::dup2(out[1], STDOUT_FILENO);
      exec(arguments);
    }
    ::close(in[0]);
    ::close(out[1]);
    stdin_ = in[1];
    stdout_ = ::fdopen(out[0], "r");
    port_ = std::atoi(read_line().c_str());
    if (port_ <= 0) throw std::runtime_error(python() + " did not start (scripts/setup check makes .venv)");
  }
  ~StubEndpoint() {
    ::close(stdin_);
    ::waitpid(process_, nullptr, 0);
    std::fclose(stdout_);
  }
  StubEndpoint(const StubEndpoint&) = delete;
  StubEndpoint& operator=(const StubEndpoint&) = delete;

  [[nodiscard]] std::string url() const { return "http://127.0.0.1:" + std::to_string(port_); }
  [[nodiscard]] int port() const { return port_; }

  // Waits for so many further answers; how many there were before the process ended.
  int wait_for_answers(int count) {
    int num_answers = 0;
    while (num_answers < count && read_line() == "served") ++num_answers;
    return num_answers;
  }

 private:
  static std::string python() {
    const char* chosen = std::getenv("NEMOFORGE_PYTHON");
    return chosen != nullptr ? chosen : std::string(NEMOFORGE_SOURCE_DIR) + "/.venv/bin/python";
  }
  [[noreturn]] static void exec(const std::vector<std::string>& arguments) {
    std::vector<std::string> words = {
        python(), "-I", std::string(NEMOFORGE_SOURCE_DIR) + "/src/trace/testdata/openai_stub.py"};
    words.insert(words.end(), arguments.begin(), arguments.end());
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    ::execv(argv[0], argv.data());
    ::_exit(127);
  }
  std::string read_line() {
    std::string line;
    for (int c = std::getc(stdout_); c != EOF && c != '\n'; c = std::getc(stdout_))
      line += static_cast<char>(c);
    return line;
  }

  pid_t process_ = -1;
  int stdin_ = -1;
  FILE* stdout_ = nullptr;
  int port_ = 0;
};

}  // namespace nemoforge::trace
