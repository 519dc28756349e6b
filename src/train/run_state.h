// What a training run needs to go on where it stopped.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"
#include "train/adamw.h"
#include "train/parameters.h"

namespace nemoforge::train {

// Beside the values and moments. The learning rate, the position in the data and every random draw are
// functions of the step and the settings, so the step says it all.
struct RunProgress {
  int64_t num_steps_done = 0;
  double first_loss = 0;        // of step 0: what divergence is measured against
  int64_t num_tokens_done = 0;  // rows that went through the model
  std::string settings;         // the settings that the bits depend on, as JSON
};

// `backend`: in whose memory values and moments are. One safetensors file that appears whole or not at all:
// "value/NAME", "m/NAME" and "v/NAME" of every parameter, "m_scale/NAME" and "v_scale/NAME" where moments are
// quantized, and the progress as metadata.
[[nodiscard]] Status write_run_state(const std::string& path, ops::Backend& backend, const ParameterSet& set,
                                     AdamW& optimizer, const RunProgress& progress);

// Puts values and moments back. kNotFound where there is no file; kInvalidArgument where it was written with
// other settings than `settings` (the message names the first that differs); kInvalidData where it does not
// fit the parameters.
[[nodiscard]] Result<RunProgress> read_run_state(const std::string& path, ops::Backend& backend,
                                                 ParameterSet& set, AdamW& optimizer,
                                                 const std::string& settings);

}  // namespace nemoforge::train
