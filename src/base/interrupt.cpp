#include "base/interrupt.h"

#include <atomic>
#include <csignal>

namespace nemoforge {
namespace {

std::atomic<bool> stop_requested{false};
static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler writes it");

void request_stop(int /*signal*/) {
  stop_requested.store(true);
  // The second signal, whichever of the two it is, meets the default action and ends the process.
  std::signal(SIGINT, SIG_DFL);
  std::signal(SIGTERM, SIG_DFL);
}

}  // namespace

void install_interrupt_handler() {
  if (stop_requested.load()) return;
  struct sigaction action {};
  action.sa_handler = request_stop;
  ::sigemptyset(&action.sa_mask);
  // No SA_RESTART: a blocked read or poll returns at once, so that its caller looks at the flag.
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
}

void clear_interrupt() {
  stop_requested.store(false);
}

bool interrupted() {
  return stop_requested.load();
}

}  // namespace nemoforge
