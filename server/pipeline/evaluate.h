// The loss of a model on given tokens, how far it is from another's, and what
// roundings make of it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "base/run_context.h"
#include "pipeline/analyses.h"
#include "pipeline/awq_search.h"
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

// The same tokens through a rounded copy of the model.
struct RoundedModel {
  std::string name;   // as a LensArm's
  int64_t block = 0;  // likewise
  double loss = 0;
  double perplexity = 1;
  double kl = 0;  // of its predictions from the model's own, as above
};

struct EvaluateRequest {
  std::string against;  // a second checkpoint with as large a vocabulary; empty: none
  // May be empty where there are analyses: MakeBuiltInTokens.
  TokenSource tokens;
  WindowOptions windows;
  AnalysisOptions analyses;
};

struct Evaluation {
  double loss = 0;        // nats, mean over all predicted tokens
  double perplexity = 1;  // exp(loss)
  int64_t tokens = 0;     // predicted tokens
  std::optional<Comparison> against;
  std::vector<RoundedModel> arms;         // WeightArms
  std::vector<RoundedModel> activations;  // ActivationArms
  std::vector<AwqScale> awq;
  std::vector<std::string> notes;  // one sentence each
};

// OPTION_INVALID for an `against` of another vocabulary, analyses out of bounds, and
// where there are neither tokens nor analyses; text is read through the tokenizer of
// `source`.  All models are streamed, one after the other over the same windows:
// what is held is kHiddenBytes (detect/arms.h) of residual streams.
absl::StatusOr<Evaluation> Evaluate(const Storage& storage, std::string_view source,
                                    const EvaluateRequest& request, const RunContext& context);

}  // namespace linchpin
