// The loss of a model on given tokens.
#pragma once

#include <cstdint>
#include <string_view>

#include "absl/status/statusor.h"
#include "base/run_context.h"
#include "pipeline/tokens.h"
#include "storage/storage.h"

namespace linchpin {

struct Evaluation {
  double loss = 0;        // nats, mean over all predicted tokens
  double perplexity = 1;  // exp(loss)
  int64_t tokens = 0;     // predicted tokens
};

absl::StatusOr<Evaluation> Evaluate(const Storage& storage, std::string_view source,
                                    const TokenSource& tokens, const WindowOptions& windows,
                                    const RunContext& context);

}  // namespace linchpin
