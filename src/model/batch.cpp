#include "model/batch.h"

#include "base/check.h"
#include "base/integers.h"

namespace nemoforge::model {

void Batch::clear() {
  token_ids_.clear();
  sequences_.clear();
  logit_rows_.clear();
  num_decode_ = 0;
  has_adapters_ = false;
}

void Batch::add_decode(int32_t token_id, const SequenceState& state) {
  NF_CHECK(num_decode_ == num_sequences()) << "sequences that decode are added before those that prefill";
  logit_rows_.push_back(narrow<int32_t>(num_rows()));
  add_sequence({&token_id, 1}, state);
  ++num_decode_;
}

void Batch::add_prefill(std::span<const int32_t> token_ids, const SequenceState& state, WantedLogits wanted) {
  NF_CHECK(!token_ids.empty());
  const int64_t begin = num_rows();
  const int64_t end = begin + static_cast<int64_t>(token_ids.size());
  if (wanted == WantedLogits::kLast) logit_rows_.push_back(narrow<int32_t>(end - 1));
  if (wanted == WantedLogits::kAll) {
    for (int64_t row = begin; row < end; ++row) logit_rows_.push_back(narrow<int32_t>(row));
  }
  add_sequence(token_ids, state);
}

void Batch::add_sequence(std::span<const int32_t> token_ids, const SequenceState& state) {
  NF_CHECK(state.context_len >= 0) << state.context_len;
  sequences_.push_back({state, num_rows(), static_cast<int64_t>(token_ids.size())});
  token_ids_.insert(token_ids_.end(), token_ids.begin(), token_ids.end());
  has_adapters_ = has_adapters_ || state.adapter != nullptr;
}

}  // namespace nemoforge::model
