#include "base/interrupt.h"

#include <csignal>

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

namespace nemoforge {
namespace {

// Runs `body` in a child process and returns its wait status.
template <typename Body>
int run_in_child(Body body) {
  const pid_t child = fork();
  if (child == 0) {
    body();
    _exit(0);
  }
  int status = -1;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return status;
}

TEST(Interrupt, first_signal_sets_the_flag) {
  for (const int signal : {SIGINT, SIGTERM}) {
    const int status = run_in_child([signal] {
      install_interrupt_handler();
      if (interrupted()) _exit(2);
      raise(signal);
      _exit(interrupted() ? 7 : 3);
    });
    ASSERT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), 7);
  }
}

TEST(Interrupt, is_kept_until_it_is_cleared) {
  const int status = run_in_child([] {
    install_interrupt_handler();
    raise(SIGINT);
    install_interrupt_handler();
    if (!interrupted()) _exit(2);
    clear_interrupt();
    install_interrupt_handler();
    if (interrupted()) _exit(3);
    raise(SIGINT);
    _exit(interrupted() ? 7 : 4);
  });
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 7);
}

TEST(Interrupt, second_signal_ends_the_process) {
  const int status = run_in_child([] {
    install_interrupt_handler();
    raise(SIGINT);
    raise(SIGTERM);
  });
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(WTERMSIG(status), SIGTERM);
}

}  // namespace
}  // namespace nemoforge
