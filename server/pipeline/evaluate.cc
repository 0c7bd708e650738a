#include "pipeline/evaluate.h"

#include <cmath>
#include <numeric>

#include "base/status.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/model_config.h"
#include "detect/arms.h"
#include "forward/forward_pass.h"

namespace linchpin {

absl::StatusOr<Evaluation> Evaluate(const Storage& storage, std::string_view source,
                                    const TokenSource& tokens, const WindowOptions& windows,
                                    const RunContext& context) {
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(storage, source));
  ASSIGN_OR_RETURN(const ModelConfig config,
                   ModelConfig::Parse("config.json", checkpoint.config_text()));
  ASSIGN_OR_RETURN(const ForwardPass pass, ForwardPass::Open(checkpoint, config));
  ASSIGN_OR_RETURN(const std::vector<TokenWindow> sequences,
                   MakeWindows(checkpoint, config, tokens, windows));
  ASSIGN_OR_RETURN(const auto arms, MeasureArms(pass, sequences, {{}}, context));
  RETURN_IF_ERROR(checkpoint.CheckUnchanged());
  const std::vector<float>& losses = arms.front().losses;
  Evaluation result;
  result.tokens = static_cast<int64_t>(losses.size());
  result.loss =
      std::accumulate(losses.begin(), losses.end(), 0.0) / static_cast<double>(result.tokens);
  result.perplexity = std::exp(result.loss);
  return result;
}

}  // namespace linchpin
