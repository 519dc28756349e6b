#include "server/body_scan.h"

#include <algorithm>
#include <vector>

namespace nemoforge::server {

size_t most_object_keys(std::string_view json) {
  std::vector<size_t> open = {0};  // of each bracket not yet closed
  size_t most = 0;
  bool in_string = false;
  for (size_t i = 0; i < json.size(); ++i) {
    const char c = json[i];
    if (in_string) {
      if (c == '\\') {
        ++i;
      } else if (c == '"') {
        in_string = false;
      }
    } else if (c == '"') {
      in_string = true;
    } else if (c == ':') {
      most = std::max(most, ++open.back());
    } else if (c == '{' || c == '[') {
      open.push_back(0);
    } else if ((c == '}' || c == ']') && open.size() > 1) {
      open.pop_back();
    }
  }
  return most;
}

}  // namespace nemoforge::server
