// The input is a whole safetensors file.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <set>
#include <string_view>
#include <vector>

#include "format/safetensors.h"
#include "tests/fuzz/invariant.h"

namespace {

using linchpin::ByteSize;
using linchpin::SafetensorsEntry;
using linchpin::SafetensorsHeader;
using linchpin::TensorInfo;

// The data area is covered from its first to its last byte.
void CheckCoverage(const SafetensorsHeader& header, uint64_t file_size) {
  uint64_t covered = header.data_begin;
  std::set<std::string_view> names;
  for (const SafetensorsEntry& entry : header.entries) {
    INVARIANT(entry.begin == covered && entry.begin <= entry.end);
    INVARIANT(ByteSize(entry.info) == static_cast<int64_t>(entry.end - entry.begin));
    INVARIANT(names.insert(entry.info.name).second);
    covered = entry.end;
  }
  INVARIANT(covered == file_size);
}

// What was read can be written and read again.
void CheckRoundTrip(const SafetensorsHeader& header) {
  std::vector<TensorInfo> tensors;
  for (const SafetensorsEntry& entry : header.entries) tensors.push_back(entry.info);
  const auto layout = linchpin::LayOutSafetensors(tensors, header.metadata);
  const auto again = linchpin::ParseSafetensorsHeader(
      "again", std::string_view(layout.header).substr(8), layout.file_size);
  INVARIANT(again.ok());
  INVARIANT(again->metadata == header.metadata);
  INVARIANT(again->entries.size() == tensors.size());
  CheckCoverage(*again, layout.file_size);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto prefix =
      absl::MakeConstSpan(reinterpret_cast<const std::byte*>(data), std::min<size_t>(size, 32));
  const auto length = linchpin::SafetensorsHeaderLength("fuzz", prefix, size);
  if (!length.ok()) return 0;
  INVARIANT(*length <= size - 8);
  const std::string_view json(reinterpret_cast<const char*>(data) + 8, *length);
  const auto header = linchpin::ParseSafetensorsHeader("fuzz", json, size);
  if (!header.ok()) return 0;
  CheckCoverage(*header, size);
  CheckRoundTrip(*header);
  return 0;
}
