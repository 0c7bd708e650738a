// Byte-pair encoding of one word: the `model` of a tokenizer.json.
//
// A word starts as its characters and is joined pair by pair, the pair of the
// lowest rank first, the leftmost among equals.
// R. Sennrich et al., 2016, https://arxiv.org/abs/1508.07909
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "format/json.h"

namespace linchpin {

// Thread-safe once built.
class BytePairEncoder {
 public:
  // TOKENIZER_INVALID, or FEATURE_UNSUPPORTED naming what is not built.
  static absl::StatusOr<BytePairEncoder> Parse(std::string_view file, const Json& model);

  std::optional<int32_t> Find(std::string_view token) const;

  // Appends the ids of `word`, which is UTF-8.  Time grows as n log n, so that
  // a word may be a whole text.  A character that the vocabulary cannot express
  // becomes the unknown token or, where there is none, nothing.
  void Encode(std::string_view word, std::vector<int32_t>& ids) const;

 private:
  struct Merge {
    uint32_t rank = 0;
    int32_t id = 0;
  };
  // A piece of the word in a doubly linked list; id < 0 once joined to its left.
  struct Symbol {
    int32_t id = 0;
    int32_t previous = -1;
    int32_t next = -1;
  };
  struct Hash : std::hash<std::string_view> {
    using is_transparent = void;
  };

  absl::Status ParseVocabulary(std::string_view file, const Json& model);
  absl::Status ParseMerges(std::string_view file, const Json& model);
  absl::Status ParseOptions(std::string_view file, const Json& model);
  std::vector<Symbol> Symbols(std::string_view word) const;
  // The ids of the bytes of a character without a token of its own.
  bool AppendBytes(std::string_view character, std::vector<Symbol>& symbols) const;
  const Merge* FindMerge(int32_t left, int32_t right) const;
  void JoinAll(std::vector<Symbol>& symbols) const;

  std::unordered_map<std::string, int32_t, Hash, std::equal_to<>> vocabulary_;
  std::unordered_map<uint64_t, Merge> merges_;  // by the two ids
  std::array<int32_t, 256> byte_ids_;           // -1 where there is none
  std::optional<int32_t> unknown_;
  bool fuse_unknown_ = false;
  bool byte_fallback_ = false;
  bool ignore_merges_ = false;
};

}  // namespace linchpin
