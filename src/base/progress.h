// Progress of long work: a bar on a terminal, a plain line now and then elsewhere.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace nemoforge {

// Where progress is written and how time passes; the default is standard error and the steady clock.
struct ProgressOutput {
  std::function<void(std::string_view)> write;
  std::function<double()> now_s;
  bool is_terminal = false;
  int width = 80;                     // columns of the terminal
  double bar_interval_s = 0.1;        // a bar is redrawn at most so often
  double plain_line_interval_s = 10;  // a plain line is written at most so often

  [[nodiscard]] static ProgressOutput standard_error();
};

// Counts finished items against their number and shows share, rate and the time left. Thread-safe. The
// destructor writes the last state.
class Progress {
 public:
  // `label` names the work ("trace"), `work_unit` what its rate is counted in ("tokens"; empty: the items
  // themselves). `num_before` items were finished earlier: they count as done, not for the rate.
  Progress(std::string label, std::string work_unit, int64_t num_items, int64_t num_before = 0,
           ProgressOutput output = ProgressOutput::standard_error());
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // One more item is done.
  void finish_item();
  // `amount` more work units are done: may be called far more often than items finish.
  void add_work(int64_t amount);
  // A few words shown after the counts, such as "12 failed".
  void set_note(std::string note);
  // Writes the last state, and a line break after a bar; later calls change nothing.
  void close();

  // The state as shown: "trace 12/96 12% 345 tokens/s, 3 failed, 1:23 left".
  [[nodiscard]] std::string text() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// "45 s", "1:23", "2:03:04".
[[nodiscard]] std::string format_duration(double seconds);

}  // namespace nemoforge
