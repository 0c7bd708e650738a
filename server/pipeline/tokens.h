// Tokens to run through a model: ids as they are, or text through the
// checkpoint's own tokenizer.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/model_config.h"

namespace linchpin {

// Attention holds tokens x tokens per head, and every sequence its residual
// stream: more would take memory that nobody reserved.
inline constexpr size_t kMaxSequenceTokens = 4096;
inline constexpr size_t kMaxTokens = 65'536;  // of all sequences together

// One of the two.
struct TokenSource {
  std::vector<std::vector<int32_t>> ids;  // one list per sequence
  std::string text;

  bool empty() const { return ids.empty() && text.empty(); }
};

// How to cut a text: each window is BOS (where the model has one) and then
// consecutive tokens, `size` in all.  Lists of ids are windows already.
struct WindowOptions {
  int size = 256;
  int count = 4;  // at most so many; the text's shorter tail is left out
};

// The windows of a source.  OPTION_INVALID for a source that is empty or both,
// a size below 2 or a text shorter than one window; TOKENS_INVALID for a
// sequence of fewer than two ids or more than kMaxSequenceTokens, for more than
// kMaxTokens in all and for an id outside the vocabulary; SOURCE_NOT_FOUND where
// text is given and the checkpoint has no tokenizer.json.
absl::StatusOr<std::vector<std::vector<int32_t>>> MakeWindows(const Checkpoint& checkpoint,
                                                              const ModelConfig& config,
                                                              const TokenSource& source,
                                                              const WindowOptions& windows);

// Tokens of our own, for what needs some and was given none.
struct BuiltInTokens {
  std::vector<std::vector<int32_t>> windows;
  // Why they are fixed ids and not NeutralText(): what is wrong with the
  // checkpoint's tokenizer.  Empty where they are the text.
  std::string no_text_because;
};

// NeutralText() through the checkpoint's tokenizer, cut as a text is; one
// shorter window where it does not fill one.  Where that tokenizer is missing,
// not understood or another model's, two windows of fixed ids, spread over the
// vocabulary: a model's loss on them means little, what changes its predictions
// is seen as well as on a text.  Fails only where `windows` is wrong or storage does.
absl::StatusOr<BuiltInTokens> MakeBuiltInTokens(const Checkpoint& checkpoint,
                                                const ModelConfig& config,
                                                const WindowOptions& windows);

// The first sequence of a source, or a whole text after BOS: a prompt.  The
// default prompt for an empty source.
absl::StatusOr<std::vector<int32_t>> MakePrompt(const Checkpoint& checkpoint,
                                                const ModelConfig& config,
                                                const TokenSource& source);

// A prompt and what it is called in a result.
struct NamedPrompt {
  std::string name;
  std::vector<int32_t> ids;
};

inline constexpr int kMaxPrompts = 7;

// The prompt of MakePrompt ("given", or "ids"), then built-in ones of another
// kind each, prose, code and other ids, then the same without BOS where the
// model has one; `count` in all, of at most 16 tokens where they are ours.
// Fixed ids stand in for a text that the checkpoint's tokenizer cannot read.
// OPTION_INVALID unless `count` is 1 to kMaxPrompts; else the errors of
// MakePrompt.
absl::StatusOr<std::vector<NamedPrompt>> MakePrompts(const Checkpoint& checkpoint,
                                                     const ModelConfig& config,
                                                     const TokenSource& source, int count);

}  // namespace linchpin
