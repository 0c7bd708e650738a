// The tokens and merges of a tokenizer.json as lists, one token per row of the
// embedding, the way that GGUF keeps them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "format/json.h"

namespace linchpin {

// tokenizer.ggml.token_type
enum TokenType : int32_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6
};

// Only of what llama.cpp takes apart and joins as the tokenizers library does: bytes
// have tokens, added tokens are found in any order, merges are of two tokens.
class TokenTable {
 public:
  // `document` is a tokenizer.json with a model.  TOKENIZER_INVALID for a malformed
  // one; the errors of NotForGguf.
  static absl::StatusOr<TokenTable> Read(const Json& document, int64_t rows);

  // SentencePiece-like: bytes are tokens of their own, as "<0x0A>".
  bool byte_fallback() const { return byte_fallback_; }
  const std::vector<std::string>& tokens() const { return tokens_; }
  const std::vector<int32_t>& types() const { return types_; }        // of TokenType
  const std::vector<std::string>& merges() const { return merges_; }  // "left right"
  // Bytes that no text of today holds and that have no token: the tokenizers library
  // joins what stands around one, llama.cpp does not.
  int missing_bytes() const { return missing_bytes_; }
  std::optional<uint32_t> Find(const std::string& token) const;

 private:
  TokenTable() = default;
  absl::Status Place(const std::string& token, const Json& id, TokenType type);
  absl::Status ReadVocabulary(const Json& model);
  absl::Status ReadAddedTokens(const Json& document);
  absl::Status MarkBytes();
  absl::Status CheckBytes(bool has_unknown);
  absl::Status FillHoles();
  absl::Status ReadMerges(const Json& model);

  bool byte_fallback_ = false;
  int missing_bytes_ = 0;
  std::vector<std::string> tokens_;
  std::vector<int32_t> types_;
  std::vector<std::string> merges_;
  std::unordered_map<std::string, uint32_t> ids_;
};

}  // namespace linchpin
