// The loss of a model on given tokens, and how far it is from another's.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "base/run_context.h"
#include "pipeline/tokens.h"
#include "storage/storage.h"

namespace linchpin {

// The same tokens through a second model.
struct Comparison {
  double loss = 0;
  double perplexity = 1;
  // Divergence of the evaluated model's predictions from the second one's
  // (Kullback-Leibler), nats, mean over all predicted tokens.
  double kl = 0;
};

struct Evaluation {
  double loss = 0;        // nats, mean over all predicted tokens
  double perplexity = 1;  // exp(loss)
  int64_t tokens = 0;     // predicted tokens
  std::optional<Comparison> against;
};

// `against`, if not empty, is a second checkpoint with as large a vocabulary
// (OPTION_INVALID otherwise); text is read through the tokenizer of `source`.
// Both are streamed: what is held is kHiddenBytes (detect/arms.h) of residual
// streams, whatever the models.
absl::StatusOr<Evaluation> Evaluate(const Storage& storage, std::string_view source,
                                    std::string_view against, const TokenSource& tokens,
                                    const WindowOptions& windows, const RunContext& context);

}  // namespace linchpin
