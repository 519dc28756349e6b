// From a conversation to the tokens that a model learns from it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "io/json.h"
#include "text/chat_template.h"
#include "text/tokenizer/tokenizer.h"

namespace nemoforge::train {

// A text to train on. A token has loss where the model itself wrote it: the assistant's reasoning, answer and
// tool calls, and the token that ends its turn.
struct SftDocument {
  std::vector<int32_t> token_ids;
  std::vector<bool> has_loss;  // [token_ids.size()]

  [[nodiscard]] int64_t num_loss_tokens() const;
};

// How conversations become text, and text tokens; points at parts that outlive it.
struct SftFormat {
  const text::Tokenizer* tokenizer = nullptr;
  const text::ChatTemplate* chat_template = nullptr;
  std::vector<int64_t> eos_token_ids;  // that end a turn
};

// The documents of one row of a dataset: an object with `messages` and, where given, `tools` and
// `chat_template_kwargs`.
//
// Each assistant turn is rendered as it would be served: the messages before it with a generation prompt are
// the prompt, what the template adds for the turn itself is the completion, up to the token that ends it.
// Prompt and completion are tokenised apart, as they are in serving, so no token straddles the edge of the
// loss. Turns share a document as long as the template renders the earlier ones unchanged; where it rewrites
// them (it drops the reasoning of earlier turns), the later turn starts a document of its own, whose earlier
// turns have no loss there. So every turn is learnt once, after exactly the text that serving puts before it.
//
// kInvalidData: no messages, no assistant turn, or a turn that the template does not render as a continuation
// of its generation prompt.
[[nodiscard]] Result<std::vector<SftDocument>> make_sft_documents(const io::Json& row,
                                                                  const SftFormat& format);

}  // namespace nemoforge::train
