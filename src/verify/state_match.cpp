#include "verify/state_match.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "verify/worker_message.h"

namespace nemoforge::verify {

using io::Json;

StateMatch match_state(const Json& reference, std::string_view blob, const Json& candidate,
                       const Json& parameters) {
  StateMatch match;
  std::vector<bool> taken(candidate.size(), false);
  const auto tail = [](const std::string& key) { return key.substr(key.rfind('.') + 1); };
  const auto numel = [](const Json& tensor) {
    int64_t count = 1;
    for (const Json& size : array_of(tensor, "shape"))
      count *= size.is_number_integer() ? size.get<int64_t>() : 0;
    return count;
  };
  size_t offset = 0;
  for (const Json& tensor : reference) {
    const auto key = get<std::string>(tensor, "key", "");
    const auto bytes = get<size_t>(tensor, "bytes", 0);
    int best = -1;
    int best_rank = 0;
    for (size_t i = 0; i < candidate.size(); ++i) {
      if (taken[i] || numel(candidate[i]) != numel(tensor)) continue;
      if (get<std::string>(candidate[i], "dtype", "") != get<std::string>(tensor, "tensor", "")) continue;
      const auto other = get<std::string>(candidate[i], "key", "");
      const bool equal =
          get<std::string>(candidate[i], "digest", "") == get<std::string>(tensor, "digest", "-");
      const int rank = other == key ? 3 : (equal ? (tail(other) == tail(key) ? 2 : 1) : 0);
      if (rank > best_rank) {
        best = static_cast<int>(i);
        best_rank = rank;
      }
    }
    const Json& facts = parameters.value(key, Json::object());
    if (best >= 0) {
      taken[static_cast<size_t>(best)] = true;
      Json leaf = tensor;
      leaf["key"] = candidate[static_cast<size_t>(best)]["key"];
      match.tensors.push_back(std::move(leaf));
      if (!blob.empty()) match.blob.append(blob.substr(offset, bytes));
    } else if (get(facts, "matters", true)) {
      match.seed_only = true;
      const bool has_room = std::any_of(candidate.begin(), candidate.end(),
                                        [&](const Json& other) { return numel(other) == numel(tensor); });
      if (get(facts, "constant", false) && !has_room) match.missing_parameter = key;
    }
    offset += bytes;
  }
  return match;
}

}  // namespace nemoforge::verify
