// The identity of the files that wrote a trace.
#pragma once

#include <string>

#include "base/result.h"

namespace nemoforge::trace {

// A fingerprint of a checkpoint's or an adapter's folder: SHA-256 over the names, sizes and contents of its
// .json, .jinja and .safetensors files. Of a file larger than 64 MiB the first MiB (a safetensors header says
// which tensors follow) and 4 KiB of every 64th part count, so that 60 GB of weights take no time; training
// changes weights everywhere, and somebody who wants two checkpoints to look alike is not what this guards
// against.
[[nodiscard]] Result<std::string> checkpoint_hash(const std::string& dir);

// SHA-256 of the chat template of a checkpoint's folder: chat_template.jinja, else the `chat_template` of its
// tokenizer_config.json.
[[nodiscard]] Result<std::string> chat_template_hash(const std::string& model_dir);

}  // namespace nemoforge::trace
