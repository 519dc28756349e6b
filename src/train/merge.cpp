#include "train/merge.h"

#include <map>
#include <memory>
#include <vector>

#include "base/thread_pool.h"
#include "model/config.h"
#include "model/convert.h"
#include "model/lora_adapter.h"
#include "ops/device_choice.h"
#include "tensor/buffer.h"
#include "train/checkpoint_folder.h"

namespace nemoforge::train {
namespace {

using model::LoraTarget;

struct TargetName {
  LoraTarget target;
  const char* module;
};

constexpr TargetName kTargets[] = {
    {LoraTarget::kInProj, "in_proj"},
    {LoraTarget::kOutProj, "out_proj"},
    {LoraTarget::kQProj, "q_proj"},
    {LoraTarget::kKProj, "k_proj"},
    {LoraTarget::kVProj, "v_proj"},
    {LoraTarget::kOProj, "o_proj"},
    {LoraTarget::kUpProj, "up_proj"},
    {LoraTarget::kDownProj, "down_proj"},
    {LoraTarget::kSharedUpProj, "shared_experts.up_proj"},
    {LoraTarget::kSharedDownProj, "shared_experts.down_proj"},
};

using PairsByName = std::map<std::string, const ops::LoraWeight*>;

// The pairs of an adapter by the hub's name of the weight that they adapt.
PairsByName pairs_by_name(const model::LoraAdapter& adapter, const model::ModelConfig& config) {
  PairsByName pairs;
  for (int64_t layer_idx = 0; layer_idx < config.num_hidden_layers(); ++layer_idx) {
    const std::string mixer = "backbone.layers." + std::to_string(layer_idx) + ".mixer.";
    for (const TargetName& target : kTargets) {
      if (const ops::LoraWeight* pair = adapter.find(layer_idx, target.target)) {
        pairs[mixer + target.module + ".weight"] = pair;
      }
    }
    for (const bool is_up : {true, false}) {
      const auto& experts =
          adapter.find_experts(layer_idx, is_up ? LoraTarget::kExpertUpProj : LoraTarget::kExpertDownProj);
      for (size_t expert = 0; expert < experts.size(); ++expert) {
        if (!experts[expert].a) continue;
        pairs[mixer + "experts." + std::to_string(expert) + (is_up ? ".up_proj" : ".down_proj") + ".weight"] =
            &experts[expert];
      }
    }
  }
  return pairs;
}

std::vector<float> to_f32(const ConstTensorView& tensor) {
  std::vector<float> values(static_cast<size_t>(tensor.numel()));
  model::convert_elements(tensor, TensorView(values.data(), tensor.shape()));
  return values;
}

// values [out, in] += scale * B [out, rank] * A [rank, in]
void add_product(const ops::LoraWeight& pair, std::span<float> values) {
  const int64_t rank = pair.a.size(0);
  const int64_t in_features = pair.a.size(1);
  const std::vector<float> a = to_f32(pair.a);
  const std::vector<float> b = to_f32(pair.b);
  ThreadPool::global().parallel_for(pair.b.size(0), [&](int64_t row, int) {
    std::vector<float> delta(static_cast<size_t>(in_features), 0.0f);
    for (int64_t r = 0; r < rank; ++r) {
      const float factor = b[static_cast<size_t>(row * rank + r)];
      const float* a_row = a.data() + r * in_features;
      for (size_t i = 0; i < delta.size(); ++i) delta[i] += factor * a_row[i];
    }
    float* target = values.data() + row * in_features;
    for (size_t i = 0; i < delta.size(); ++i) target[i] += pair.scale * delta[i];
  });
}

}  // namespace

Result<int64_t> merge_adapter(const std::string& model, const std::string& lora, const std::string& out) {
  NF_TRY(const model::ModelConfig config, model::load_model_config(model));
  NF_TRY(const std::unique_ptr<ops::Backend> backend, ops::make_backend(ops::DeviceChoice::kCpu));
  NF_TRY(const model::LoraAdapter adapter, model::LoraAdapter::load(lora, config, *backend));
  const PairsByName pairs = pairs_by_name(adapter, config);
  int64_t num_merged = 0;
  NF_RETURN_IF_ERROR(write_checkpoint(
      model, out, [&](const std::string& name) { return pairs.contains(name); },
      [&](const std::string& name, std::span<float> values) -> Status {
        const ops::LoraWeight& pair = *pairs.at(name);
        if (static_cast<int64_t>(values.size()) != pair.b.size(0) * pair.a.size(1)) {
          return error(ErrorCode::kInvalidData,
                       model + ": tensor \"" + name + "\" is not of the size that config.json asks for");
        }
        add_product(pair, values);
        ++num_merged;
        return {};
      }));
  if (num_merged != static_cast<int64_t>(pairs.size())) {
    return error(ErrorCode::kInvalidData, model + " has " + std::to_string(num_merged) + " of the " +
                                              std::to_string(pairs.size()) +
                                              " weights that the adapter changes");
  }
  return num_merged;
}

}  // namespace nemoforge::train
