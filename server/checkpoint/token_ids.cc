#include "checkpoint/token_ids.h"

#include "base/status.h"
#include "fmt/format.h"

namespace linchpin {

absl::Status CheckTokenIds(absl::Span<const int32_t> ids, const ModelConfig& config) {
  if (ids.empty()) {
    return Error(Reason::kTokensInvalid, "token ids", "there are none", "give at least one id");
  }
  for (const int32_t id : ids) {
    if (id >= 0 && id < config.vocab) continue;
    return Error(Reason::kTokensInvalid, "token ids",
                 fmt::format("id {} is outside the vocabulary of {}", id, config.vocab),
                 "use ids of this model's own tokenizer");
  }
  // A dynamic rotation is there to go beyond them.
  const bool bounded = config.max_positions > 0 && config.rope.full.type != RopeType::kDynamic;
  if (!bounded || std::cmp_less_equal(ids.size(), config.max_positions)) return absl::OkStatus();
  return Error(Reason::kTokensInvalid, "token ids",
               fmt::format("a sequence of {} where the model has {} positions", ids.size(),
                           config.max_positions),
               "give shorter sequences, or smaller windows");
}

}  // namespace linchpin
