// Lays out a GGUF file, version 3: the mirror of gguf.h, which reads one.
//
// Pairs in the given order, then the tensors, whose data follow one another in
// that order, each padded to the alignment: the running sum of sizes that ggml
// insists on.  Pure functions, no I/O.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "format/gguf.h"

namespace linchpin {

inline constexpr size_t kMaxGgufNameBytes = 63;  // of a tensor; ggml takes no longer one

// A value to be written; lists become arrays.
using GgufNewValue =
    std::variant<bool, uint32_t, float, std::string_view, absl::Span<const std::string>,
                 absl::Span<const int32_t>, absl::Span<const float>>;

// A value as GgufKeyValue has it.
std::string GgufValueBytes(const GgufNewValue& value);

// Keys and values to be written, in their order.
class GgufPairs {
 public:
  void Add(std::string key, const GgufNewValue& value) {
    pairs_.emplace_back(std::move(key), GgufValueBytes(value));
  }
  // Views that live until the next Add.
  std::vector<GgufKeyValue> views() const {
    std::vector<GgufKeyValue> views;
    for (const auto& [key, value] : pairs_) views.push_back({key, value});
    return views;
  }

 private:
  std::vector<std::pair<std::string, std::string>> pairs_;
};

struct GgufLayout {
  std::string header;               // up to where the data begin
  std::vector<GgufTensor> tensors;  // as given, with their places in the file
  uint64_t file_size = 0;           // the padding behind the last one included
};

// Places of `tensors` are taken no notice of.  The alignment is that of the pair
// general.alignment, else 32.  HEADER_INVALID naming `file` and the tensor or the
// key that stands twice, has too long a name, or more than four dimensions;
// TENSOR_SHAPE_INVALID where rows are no whole blocks.
absl::StatusOr<GgufLayout> LayOutGguf(std::string_view file, absl::Span<const GgufKeyValue> pairs,
                                      std::vector<GgufTensor> tensors);

}  // namespace linchpin
