// Text to token ids through a checkpoint's `tokenizer.json`.
//
// Reads byte-pair encodings: byte-level (GPT-2's mapping, with split patterns)
// and SentencePiece-like (prepended space, byte fallback).  Anything in the file
// that is not understood is refused by name (FEATURE_UNSUPPORTED), never guessed.
// Format: https://huggingface.co/docs/tokenizers
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace linchpin {

// What a caller can do where the tokenizer is not understood.
inline constexpr std::string_view kGiveIds = "give token ids in place of text";

// Immutable after Parse; Encode is thread-safe.
class Tokenizer {
 public:
  static absl::StatusOr<Tokenizer> Parse(std::string_view file, std::string_view json);
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  // The ids of `text`, which must be UTF-8 (TOKENS_INVALID otherwise), without
  // special tokens around it; added tokens within it are recognised.
  absl::StatusOr<std::vector<int32_t>> Encode(std::string_view text) const;

 private:
  struct Model;
  explicit Tokenizer(std::unique_ptr<Model> model);
  std::unique_ptr<Model> model_;
};

}  // namespace linchpin
