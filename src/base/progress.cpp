#include "base/progress.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <mutex>
#include <utility>

#include <spdlog/fmt/fmt.h>
#include <sys/ioctl.h>
#include <unistd.h>

namespace nemoforge {
namespace {

double steady_now_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void write_to_standard_error(std::string_view text) {
  while (!text.empty()) {
    const ssize_t count = ::write(STDERR_FILENO, text.data(), text.size());
    if (count <= 0) return;  // nowhere to show progress is no reason to stop the work
    text.remove_prefix(static_cast<size_t>(count));
  }
}

std::string bar(double share, int width) {
  const int filled = static_cast<int>(share * width);
  return "[" + std::string(static_cast<size_t>(filled), '#') +
         std::string(static_cast<size_t>(width - filled), '-') + "]";
}

}  // namespace

ProgressOutput ProgressOutput::standard_error() {
  ProgressOutput output;
  output.write = write_to_standard_error;
  output.now_s = steady_now_s;
  output.is_terminal = ::isatty(STDERR_FILENO) == 1;
  winsize size{};
  if (output.is_terminal && ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
    output.width = size.ws_col;
  }
  return output;
}

std::string format_duration(double seconds) {
  if (seconds < 60) return fmt::format("{} s", std::lround(std::max(seconds, 0.0)));
  const int64_t whole = std::llround(std::min(seconds, 1e9));
  const int64_t hours = whole / 3600;
  const int64_t minutes = whole / 60 % 60;
  if (hours == 0) return fmt::format("{}:{:02}", minutes, whole % 60);
  return fmt::format("{}:{:02}:{:02}", hours, minutes, whole % 60);
}

struct Progress::State {
  std::string label;
  std::string work_unit;
  int64_t num_items;
  int64_t num_before;
  ProgressOutput output;
  double started_s;

  mutable std::mutex mutex;
  int64_t num_finished = 0;
  int64_t work = 0;
  std::string note;
  double last_shown_s;
  bool closed = false;

  // The part of the text after the label and the bar.
  [[nodiscard]] std::string counts() const {
    const double elapsed_s = std::max(output.now_s() - started_s, 1e-9);
    const int64_t num_done = num_before + num_finished;
    std::string text = fmt::format("{}/{} {:.0f}%", num_done, num_items, 100 * share());
    if (!work_unit.empty() && work > 0) {
      text += fmt::format(" {:.0f} {}/s", static_cast<double>(work) / elapsed_s, work_unit);
    } else if (num_finished > 0) {
      text += fmt::format(" {:.2g}/s", static_cast<double>(num_finished) / elapsed_s);
    }
    if (!note.empty()) text += ", " + note;
    if (closed || num_done >= num_items) {
      text += ", took " + format_duration(elapsed_s);
    } else if (num_finished > 0) {
      const double left_s =
          elapsed_s / static_cast<double>(num_finished) * static_cast<double>(num_items - num_done);
      text += ", " + format_duration(left_s) + " left";
    }
    return text;
  }
  [[nodiscard]] double share() const {
    if (num_items <= 0) return 1;
    return std::min(1.0, static_cast<double>(num_before + num_finished) / static_cast<double>(num_items));
  }
  void show_if_due() {
    const double interval_s = output.is_terminal ? output.bar_interval_s : output.plain_line_interval_s;
    if (!closed && output.now_s() - last_shown_s >= interval_s) show();
  }
  void show() {
    last_shown_s = output.now_s();
    if (!output.is_terminal) {
      output.write(label + " " + counts() + "\n");
      return;
    }
    std::string line = label + " " + bar(share(), 24) + " " + counts();
    // One line that wraps cannot be redrawn.
    line.resize(std::min(line.size(), static_cast<size_t>(std::max(output.width - 1, 1))));
    output.write("\r" + line + "\x1b[K");
  }
};

Progress::Progress(std::string label, std::string work_unit, int64_t num_items, int64_t num_before,
                   ProgressOutput output)
    : state_(new State{.label = std::move(label),
                       .work_unit = std::move(work_unit),
                       .num_items = num_items,
                       .num_before = num_before,
                       .output = std::move(output),
                       .started_s = 0,
                       .mutex = {},
                       .note = {},
                       .last_shown_s = 0}) {
  state_->started_s = state_->output.now_s();
  state_->last_shown_s = state_->started_s;
}

Progress::~Progress() {
  close();
}

void Progress::finish_item() {
  const std::scoped_lock lock(state_->mutex);
  ++state_->num_finished;
  state_->show_if_due();
}

void Progress::add_work(int64_t amount) {
  const std::scoped_lock lock(state_->mutex);
  state_->work += amount;
  state_->show_if_due();
}

void Progress::set_note(std::string note) {
  const std::scoped_lock lock(state_->mutex);
  state_->note = std::move(note);
}

void Progress::close() {
  const std::scoped_lock lock(state_->mutex);
  if (state_->closed) return;
  state_->closed = true;
  state_->show();
  if (state_->output.is_terminal) state_->output.write("\n");
}

std::string Progress::text() const {
  const std::scoped_lock lock(state_->mutex);
  return state_->label + " " + state_->counts();
}

}  // namespace nemoforge
