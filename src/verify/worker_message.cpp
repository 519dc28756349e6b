#include "verify/worker_message.h"

namespace nemoforge::verify {

using io::Json;

const Json& array_of(const Json& object, const char* key) {
  static const Json kEmpty = Json::array();
  const auto found = object.find(key);
  return found != object.end() && found->is_array() ? *found : kEmpty;
}

std::vector<int64_t> tensor_sizes(Json& tree) {
  std::vector<int64_t> sizes;
  for_each_tensor(tree, [&](Json& leaf) { sizes.push_back(leaf["bytes"].get<int64_t>()); });
  return sizes;
}

}  // namespace nemoforge::verify
