#include "tests/support/written_artifact.h"

#include <optional>

#include "checkpoint/gguf_template.h"
#include "quantize/equalization.h"
#include "quantize/linear_layers.h"

namespace linchpin {
namespace {

constexpr int64_t kCalibrationTokens = 77;

absl::StatusOr<std::optional<GgufTemplate>> PatternOf(const Checkpoint& checkpoint,
                                                      const QuantizeOptions& options) {
  if (options.format != Format::kGguf) return std::nullopt;
  if (checkpoint.is_gguf()) return GgufTemplate::Open(checkpoint);
  return GgufTemplate::Make(checkpoint);
}

}  // namespace

Detection SomeDetection() {
  Detection detection;
  detection.verdict = Verdict::kSeveral;
  SuperWeight weight;
  weight.position = {"model.layers.1.mlp.down_proj.weight", 3, 77};
  weight.layer = 1;
  weight.value = 5.8757F;
  weight.input = 3064.8F;
  weight.output = 24881.6F;
  weight.share = 0.724F;
  weight.persistence = 0.94F;
  weight.rank = 2;
  weight.weight_class = WeightClass::kCritical;
  detection.super_weights = {weight};
  detection.super_activations = {{.channel = 3, .peak = 24926.2F, .onset_layer = 1}};
  detection.layers = {{.layer = 0, .down_proj_input = {9, 173, -7.61F}}};
  Proof proof;
  proof.windows = 4;
  proof.tokens = 4 * 255;
  proof.baseline_loss = 3.223;
  proof.baseline_perplexity = 25.1;
  const ProofArm arm{.changed = {{weight.position, 0.0F}},
                     .loss = 4.9,
                     .perplexity_ratio = 5.58,
                     .interval_low = 4.9,
                     .interval_high = 6.2,
                     .kl = 1.61};
  proof.alone = {arm};
  proof.joint = arm;
  proof.null = {arm, arm};
  detection.proof = proof;
  detection.prompt = {1, 17, 4};
  return detection;
}

absl::Status WriteArtifact(MemoryStorage& storage, const std::string& source,
                           const std::string& destination, const QuantizeOptions& options,
                           const std::vector<PinnedWeight>& super_weights,
                           const RunContext& context, Importance importance) {
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(storage, source));
  ASSIGN_OR_RETURN(const std::optional<GgufTemplate> pattern, PatternOf(checkpoint, options));
  if (options.equalize) {
    ASSIGN_OR_RETURN(const LinearLayers layers, LinearLayersOf(checkpoint));
    AddNorms(layers.normed, importance);
  }
  const GgufTemplate* followed = pattern ? &*pattern : nullptr;
  ASSIGN_OR_RETURN(const Plan plan,
                   MakePlan(checkpoint, options, super_weights, &importance, followed));
  ASSIGN_OR_RETURN(const auto output, storage.CreateDirectory(destination, false));
  ASSIGN_OR_RETURN(const ArtifactRecord record,
                   WriteArtifact(checkpoint, plan, *output, context, &importance, followed));
  ASSIGN_OR_RETURN(const std::vector<FileRecord> source_files,
                   DigestCheckpoint(checkpoint, {.stop = context.stop}));
  const Detection detection = SomeDetection();
  std::optional<CalibrationRecord> calibration;
  if (!importance.empty()) calibration = {TokenOrigin::kGiven, kCalibrationTokens};
  const std::string manifest = SerializeManifest(BuildManifest({.source_name = source,
                                                                .source_files = source_files,
                                                                .plan = &plan,
                                                                .detection = &detection,
                                                                .artifact = &record,
                                                                .kept = record.kept,
                                                                .calibration = calibration}));
  ASSIGN_OR_RETURN(const auto file, output->CreateFile(kManifestName, manifest.size()));
  RETURN_IF_ERROR(
      file->WriteAt(0, {reinterpret_cast<const std::byte*>(manifest.data()), manifest.size()}));
  return output->Commit();
}

}  // namespace linchpin
