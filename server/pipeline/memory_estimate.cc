#include "pipeline/memory_estimate.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include "base/status.h"
#include "checkpoint/model_config.h"
#include "detect/arms.h"
#include "detect/foresight.h"
#include "detect/prompt.h"
#include "fmt/format.h"
#include "forward/forward_pass.h"
#include "pipeline/job_key.h"
#include "quantize/slab_encoder.h"
#include "storage/object_parts.h"
#include "storage/uri.h"

namespace linchpin {
namespace {

constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kLibraries = 256 * kMiB;  // LibTorch, its thread pools and scratch
constexpr uint64_t kHead = 128 * kMiB;       // a slab of the output projection, its logits

// Of a tensor, from fast to frugal.
constexpr int64_t kSlabs[] = {int64_t{4} << 20, int64_t{1} << 20, int64_t{256} << 10};

// "model.layers.12." for a tensor of that layer; empty for any other.
std::string LayerOf(const std::string& name) {
  constexpr std::string_view kLayers = "layers.";
  const size_t at = name.find(kLayers);
  if (at == std::string::npos) return "";
  const size_t end = name.find('.', at + kLayers.size());
  return end == std::string::npos ? "" : name.substr(0, end + 1);
}

int64_t AtMost(size_t count, int64_t most) {
  return std::min<int64_t>(static_cast<int64_t>(count), most);
}

// A slab as it is stored, in float32, as codes, and what lies between; and what a
// tensor has beside its codes, which is kept to its end: at most four bytes of scale
// and zero point for each group of 32.
uint64_t EncoderBytes(const Checkpoint& checkpoint, int64_t slab_bytes) {
  constexpr uint64_t kCopies = 8;
  uint64_t slab = static_cast<uint64_t>(slab_bytes);
  uint64_t beside = 0;
  for (const StoredTensor& tensor : checkpoint.tensors()) {
    const std::vector<int64_t>& shape = tensor.info.shape;
    if (shape.size() != 2) continue;
    slab = std::max(slab, static_cast<uint64_t>(kSlabRows * shape[1] * SizeOf(tensor.info.dtype)));
    if (LayerOf(tensor.info.name).empty()) continue;
    beside = std::max(beside, static_cast<uint64_t>(ElementCount(shape).value_or(0)) / 8);
  }
  return kCopies * slab + beside;
}

// Nothing for a family that no pass runs.
uint64_t ActivationBytes(const Checkpoint& checkpoint, int threads, const TokenLoad& load) {
  const absl::StatusOr<ModelConfig> config =
      ModelConfig::Parse("config.json", checkpoint.config_text());
  if (!config.ok()) return 0;
  const auto stream = static_cast<uint64_t>(config->hidden) * sizeof(float);  // of one token
  // Before the layer, what its MLP adds, and the outputs of its down_projs.
  const auto kept = static_cast<uint64_t>(config->layers) * (3 + config->experts.per_token);
  const uint64_t runs = load.prompt <= Foresight::kMostTokens ? 2 : 1;
  static_assert(kDefaultPromptTokens <= Foresight::kMostTokens);
  const auto traced =
      runs * static_cast<uint64_t>(load.prompt) + 2 * static_cast<uint64_t>(load.others);
  const uint64_t trace = traced * stream * kept;
  const uint64_t held = std::min<uint64_t>(
      static_cast<uint64_t>(load.measured) * stream,
      std::max<uint64_t>(kHiddenBytes, 2 * static_cast<uint64_t>(load.longest) * stream));
  const auto width = static_cast<uint64_t>(std::max(
      {config->intermediate, config->experts.intermediate, config->experts.shared_intermediate}));
  // An expert sees some of the tokens, all experts of a layer each of them several times.
  const auto experts = static_cast<uint64_t>(config->experts.per_token + 1);
  const uint64_t gathered = static_cast<uint64_t>(load.gathered) * width * experts * sizeof(float);
  return trace + gathered + 2 * held +  // the scores keep them normed
         ForwardPass::ActivationBytes(*config, std::max(load.prompt + load.others, load.longest),
                                      threads);
}

TokenLoad CalibrationLoad(const TokenSource& given) {
  if (given.empty()) return {.longest = kBuiltInWindow, .measured = kBuiltInWindow};
  return LoadOf(given, kCalibrationWindows);
}

}  // namespace

TokenLoad LoadOf(const TokenSource& tokens, const WindowOptions& windows) {
  TokenLoad load;
  for (const std::vector<int32_t>& ids : tokens.ids) {
    load.longest = std::max(load.longest, AtMost(ids.size(), kMaxSequenceTokens));
    load.measured += AtMost(ids.size(), kMaxSequenceTokens);
  }
  if (!tokens.ids.empty()) return load;
  load.longest = std::min<int64_t>(windows.size, kMaxSequenceTokens);
  load.measured = load.longest * std::min<int64_t>(windows.count, kMaxTokens);
  return load;
}

TokenLoad LoadOf(const DetectRequest& request) {
  TokenLoad load;
  load.forward = !request.skip;
  if (request.skip) return load;
  if (request.proof != ProofLevel::kNone || request.study) {
    load = LoadOf(request.proof_tokens, request.proof_windows);
    load.measured = kMaxTokens;  // times the arms, of which only a detection tells
  }
  const TokenSource& prompt = request.prompt;
  load.prompt = prompt.empty()       ? kDefaultPromptTokens
                : prompt.ids.empty() ? AtMost(prompt.text.size() + 1, kMaxSequenceTokens)
                                     : AtMost(prompt.ids.front().size(), kMaxSequenceTokens);
  load.others = (std::clamp(request.prompts, 1, kMaxPrompts) - 1) * kDefaultPromptTokens;
  return load;
}

TokenLoad LoadOf(const EvaluateRequest& request) {
  const AnalysisOptions& analyses = request.analyses;
  TokenLoad load = LoadOf(request.tokens, request.windows);
  if (!analyses.any()) return load;
  // A rounded copy of the model beside the model itself.
  load.measured *= 2;
  load.prompt = kDefaultPromptTokens;
  if (!analyses.activations && !analyses.awq) return load;
  const TokenLoad calibration = CalibrationLoad(analyses.calibration);
  load.longest = std::max(load.longest, calibration.longest);
  load.measured = std::max(load.measured, calibration.measured);
  if (analyses.awq) load.gathered = calibration.measured;
  return load;
}

TokenLoad LoadOf(const CompressOptions& options) {
  TokenLoad load = LoadOf(options.detect);
  load.allowed = options.max_memory;
  if (!NeedsImportance(options.quantize)) return load;
  const TokenLoad beside = CalibrationLoad(options.calibration);
  load.longest = std::max(load.longest, beside.longest);
  load.measured = std::max(load.measured, beside.measured);
  return load;
}

// One of the codes that a thread writes, and one of what goes beside them.
uint64_t OutputBytesPerThread(std::string_view destination) {
  const absl::StatusOr<Uri> uri = ParseUri(destination);
  return uri.ok() && uri->scheme != "file" ? 2 * kPartBytes : 0;
}

uint64_t EstimateMemory(const Checkpoint& checkpoint, const WorkingSet& set,
                        const TokenLoad& load) {
  const uint64_t encoders = static_cast<uint64_t>(set.threads) *
                            (EncoderBytes(checkpoint, set.slab_bytes) + load.per_writer);
  if (!load.forward) return kLibraries + encoders;
  std::map<std::string, uint64_t> layers;
  uint64_t largest_layer = 0;
  uint64_t largest_tensor = 0;
  for (const StoredTensor& tensor : checkpoint.tensors()) {
    const std::string layer = LayerOf(tensor.info.name);
    if (layer.empty()) continue;
    const auto elements = static_cast<uint64_t>(ElementCount(tensor.info.shape).value_or(0));
    uint64_t& total = layers[layer];
    total += elements * sizeof(float);
    largest_layer = std::max(largest_layer, total);
    largest_tensor = std::max(largest_tensor, StoredSize(tensor));
  }
  return kLibraries + kHead + encoders + largest_layer + largest_tensor +
         ActivationBytes(checkpoint, set.threads, load);
}

absl::StatusOr<WorkingSet> FitMemory(const Checkpoint& checkpoint, int threads,
                                     const TokenLoad& load) {
  const uint64_t limit = load.allowed != 0 ? load.allowed : load.preferred;
  WorkingSet set{.threads = threads};
  if (limit == 0) return set;
  for (set.threads = threads; set.threads >= 1; --set.threads) {
    for (const int64_t slab : kSlabs) {
      set.slab_bytes = slab;
      if (EstimateMemory(checkpoint, set, load) <= limit) return set;
    }
  }
  set.threads = 1;
  if (load.allowed == 0) return set;  // what a server has is told by its admission
  return Error(Reason::kOptionInvalid, "max-memory",
               fmt::format("{} bytes are too few for this model and these options", limit),
               fmt::format("allow {} or more", EstimateMemory(checkpoint, set, load)));
}

absl::StatusOr<SourceSurvey> SurveySource(const Storage& storage, std::string_view source,
                                          int threads, const TokenLoad& load) {
  ASSIGN_OR_RETURN(Checkpoint opened, Checkpoint::Open(storage, source));
  auto held = std::make_shared<const Checkpoint>(std::move(opened));
  const Checkpoint& checkpoint = *held;
  ASSIGN_OR_RETURN(const WorkingSet set, FitMemory(checkpoint, threads, load));
  ASSIGN_OR_RETURN(std::string fingerprint, FingerprintOf(checkpoint));
  SourceSurvey survey{.memory_bytes = EstimateMemory(checkpoint, set, load),
                      .set = set,
                      .source_bytes = checkpoint.total_bytes(),
                      .fingerprint = std::move(fingerprint)};
  for (const Shard& shard : checkpoint.shards()) survey.shards.push_back(shard.name);
  survey.checkpoint = std::move(held);
  return survey;
}

}  // namespace linchpin
