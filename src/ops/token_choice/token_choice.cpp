#include "ops/token_choice/token_choice.h"

#include "base/check.h"
#include "ops/backend.h"

namespace nemoforge::ops {

void Backend::choose_tokens(const TokenChoiceArgs& /*args*/) {
  NF_CHECK(false) << name() << " does not choose tokens";
}

void check(const TokenChoiceArgs& args) {
  NF_CHECK(args.logits && args.logits.shape().rank() == 2 && args.logits.dtype() == DType::kF32 &&
           args.logits.is_contiguous())
      << args.logits.shape().to_string();
  const auto num_rows = static_cast<size_t>(args.logits.size(0));
  NF_CHECK(args.rows.size() == num_rows && args.out.size() == num_rows)
      << args.rows.size() << " and " << args.out.size() << " for " << num_rows;
  const int64_t vocab_size = args.logits.size(1);
  for (const TokenChoiceRow& row : args.rows) {
    NF_CHECK(row.inverse_temperature >= 0 && row.top_p > 0 && row.top_p <= 1 && row.min_p >= 0 &&
             row.min_p <= 1 && row.top_k >= 0 && row.uniform >= 0 && row.uniform < 1);
    NF_CHECK(row.num_top_logprobs >= -1 && row.num_top_logprobs <= kMaxTopLogprobs) << row.num_top_logprobs;
    NF_CHECK(row.token_mask.empty() || static_cast<int64_t>(row.token_mask.size()) * 32 >= vocab_size);
    for (const LogitChange& change : row.changes) {
      NF_CHECK(change.token_id >= 0 && change.token_id < vocab_size) << change.token_id;
    }
  }
}

}  // namespace nemoforge::ops
