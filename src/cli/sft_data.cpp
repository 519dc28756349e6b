#include "cli/sft_data.h"

#include "text/chat_template.h"
#include "text/tokenizer/tokenizer.h"

namespace nemoforge::cli {

Result<train::SftDataset> read_sft_data(const std::string& model, const model::ModelConfig& config,
                                        const std::string& path, const train::SftLimits& limits) {
  NF_TRY(const text::Tokenizer tokenizer, text::Tokenizer::load(model));
  NF_TRY(const text::ChatTemplate chat_template, text::ChatTemplate::load(model));
  return train::read_sft_dataset(path, {&tokenizer, &chat_template, config.eos_token_ids}, limits);
}

}  // namespace nemoforge::cli
