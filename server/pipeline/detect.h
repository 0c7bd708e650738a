// Opens a checkpoint and finds its super weights, with a proof where asked.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "base/run_context.h"
#include "checkpoint/checkpoint.h"
#include "detect/detection.h"
#include "storage/storage.h"

namespace linchpin {

// Tokens to run: ids, or text through the checkpoint's tokenizer.json; one of them.
struct TokenSource {
  std::vector<std::vector<int32_t>> ids;  // one list per sequence
  std::string text;

  bool empty() const { return ids.empty() && text.empty(); }
};

struct DetectRequest {
  DetectOptions options;
  TokenSource prompt;  // empty: BOS and a few fixed ids
  ProofLevel proof = ProofLevel::kNone;
  TokenSource proof_tokens;  // required unless proof is kNone
  int window = 256;          // tokens per window of a text, BOS included
  int windows = 4;           // at most so many
};

absl::StatusOr<Detection> Detect(const Storage& storage, std::string_view source,
                                 const DetectRequest& request, const RunContext& context);

// The same on an opened checkpoint.
absl::StatusOr<Detection> DetectIn(const Checkpoint& checkpoint, const DetectRequest& request,
                                   const RunContext& context);

// Mean loss of the model on token windows.
struct Evaluation {
  double loss = 0;        // nats per predicted token
  double perplexity = 1;  // exp(loss)
  int64_t tokens = 0;     // predicted tokens
};
absl::StatusOr<Evaluation> Evaluate(const Storage& storage, std::string_view source,
                                    const TokenSource& tokens, int window, int windows,
                                    const RunContext& context);

// The windows of a TokenSource: lists of ids as they are; a text as consecutive
// runs of `window - 1` tokens, each after BOS (where the model has one), the
// shorter tail left out.  OPTION_INVALID if there is no tokenizer or no window.
absl::StatusOr<std::vector<std::vector<int32_t>>> MakeWindows(const Checkpoint& checkpoint,
                                                              const TokenSource& tokens, int window,
                                                              int windows);

}  // namespace linchpin
