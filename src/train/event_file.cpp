#include "train/event_file.h"

#include <array>
#include <bit>
#include <filesystem>

#include <nlohmann/json.hpp>

#include "io/file.h"
#include "io/json.h"
#include "train/metrics.h"

namespace nemoforge::train {
namespace {

constexpr std::array<uint32_t, 256> kCrc32cTable = [] {
  std::array<uint32_t, 256> table{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1U) != 0 ? 0x82F63B78U : 0U);
    table[byte] = crc;
  }
  return table;
}();

// CRC-32C, rotated and offset as TFRecord stores it.
uint32_t masked_crc(std::string_view bytes) {
  uint32_t crc = 0xFFFFFFFFU;
  for (const char c : bytes) crc = (crc >> 8) ^ kCrc32cTable[(crc ^ static_cast<unsigned char>(c)) & 0xFFU];
  crc = ~crc;
  return ((crc >> 15) | (crc << 17)) + 0xA282EAD8U;
}

template <typename T>
std::string little_endian(T value) {
  std::string bytes;
  for (size_t i = 0; i < sizeof(T); ++i) bytes += static_cast<char>((value >> (8 * i)) & 0xFFU);
  return bytes;
}

std::string varint(uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes += static_cast<char>((value & 0x7FU) | 0x80U);
  return bytes + static_cast<char>(value);
}

// Protocol buffers' fields: a tag (number, wire type) and the value.
constexpr uint64_t kVarint = 0;
constexpr uint64_t kFixed64 = 1;
constexpr uint64_t kBytes = 2;
constexpr uint64_t kFixed32 = 5;

std::string tag_of(uint64_t field, uint64_t wire_type) {
  return varint(field << 3 | wire_type);
}

std::string bytes_field(uint64_t field, std::string_view bytes) {
  return tag_of(field, kBytes) + varint(bytes.size()) + std::string(bytes);
}

std::string record(std::string_view event) {
  const std::string length = little_endian(static_cast<uint64_t>(event.size()));
  return length + little_endian(masked_crc(length)) + std::string(event) + little_endian(masked_crc(event));
}

std::string wall_time(double seconds) {
  return tag_of(1, kFixed64) + little_endian(std::bit_cast<uint64_t>(seconds));
}

}  // namespace

std::string scalar_event(double wall_time_s, int64_t step, std::string_view tag, float value) {
  const std::string scalar =
      bytes_field(1, tag) + tag_of(2, kFixed32) + little_endian(std::bit_cast<uint32_t>(value));
  return record(wall_time(wall_time_s) + tag_of(2, kVarint) + varint(static_cast<uint64_t>(step)) +
                bytes_field(5, bytes_field(1, scalar)));
}

Status write_event_file(const std::string& metrics_path, const std::string& events_path) {
  NF_TRY(const std::vector<io::Json> rows, read_metrics(metrics_path));
  // file_version = 3: what readers look for in the first event.
  std::string events =
      record(wall_time(rows.empty() ? 0 : rows[0].value("time", 0.0)) + bytes_field(3, "brain.Event:2"));
  for (const io::Json& row : rows) {
    const std::string side = row.contains("loss") ? "train/" : "eval/";
    for (const auto& [name, value] : row.items()) {
      if (!value.is_number() || name == "step" || name == "time") continue;
      events += scalar_event(row.value("time", 0.0), row.value("step", int64_t{0}), side + name,
                             value.get<float>());
    }
  }
  std::error_code failure;
  std::filesystem::create_directories(std::filesystem::path(events_path).parent_path(), failure);
  if (failure)
    return error(ErrorCode::kIo, "cannot create the folder of " + events_path + ": " + failure.message());
  return io::write_file_atomically(events_path, events);
}

}  // namespace nemoforge::train
