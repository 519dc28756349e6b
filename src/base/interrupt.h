// Ctrl-C: long work asks whether it should stop, finishes what it must, and ends in order.
#pragma once

namespace nemoforge {

// From here on the first SIGINT or SIGTERM only sets the flag that interrupted() reads; a second one ends the
// process at once, as if nothing had been installed. Calling it again changes nothing: of several pieces of
// work in a row, a signal between two stops the next.
void install_interrupt_handler();

// After an interruption that is dealt with: clears the flag, so that install_interrupt_handler() starts over.
void clear_interrupt();

// Whether a signal has asked the process to stop. False for ever where no handler is installed.
[[nodiscard]] bool interrupted();

}  // namespace nemoforge
