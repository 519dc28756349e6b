// SHA-256: the identity of problems, templates, checkpoints and files in what nemoforge records.
#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace nemoforge {

// Hashes a text that comes in pieces.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;

  void update(std::string_view bytes);
  // 64 hexadecimal digits. Ends the object's life as a hasher: no call may follow.
  [[nodiscard]] std::string hex_digest();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

[[nodiscard]] std::string sha256_hex(std::string_view bytes);

}  // namespace nemoforge
