#include "service/conversion.h"

#include <algorithm>

#include "base/status.h"
#include "detect/notes.h"
#include "detect/thresholds.h"
#include "fmt/format.h"
#include "service/status_conversion.h"
#include "storage/uri.h"

namespace linchpin {
namespace {

// A value as the API and as the engine know it; the first row is the default.
template <class Api, class Value>
struct Row {
  Api api;
  Value value;
};

constexpr Row<v1::Scheme, Scheme> kSchemes[] = {
    {v1::SCHEME_UNSPECIFIED, Scheme::kW4A16}, {v1::SCHEME_W4A16, Scheme::kW4A16},
    {v1::SCHEME_W8A16, Scheme::kW8A16},       {v1::SCHEME_W8A8, Scheme::kW8A8},
    {v1::SCHEME_FP8, Scheme::kFp8},           {v1::SCHEME_Q4_0, Scheme::kQ4_0},
    {v1::SCHEME_Q4_1, Scheme::kQ4_1},         {v1::SCHEME_Q5_0, Scheme::kQ5_0},
    {v1::SCHEME_Q5_1, Scheme::kQ5_1},         {v1::SCHEME_Q8_0, Scheme::kQ8_0},
    {v1::SCHEME_Q4_K, Scheme::kQ4_K},         {v1::SCHEME_Q5_K, Scheme::kQ5_K},
    {v1::SCHEME_Q6_K, Scheme::kQ6_K},         {v1::SCHEME_F16, Scheme::kF16},
    {v1::SCHEME_BF16, Scheme::kBF16},         {v1::SCHEME_BLOCKS, Scheme::kBlocks},
    {v1::SCHEME_PRUNED, Scheme::kPruned},     {v1::SCHEME_PRUNED_2_4, Scheme::kPruned2Of4}};
// What prunes; the first row is of no pruning.
constexpr Row<v1::PruningMethod, Scheme> kPrunings[] = {
    {v1::PRUNING_METHOD_UNSPECIFIED, Scheme::kW4A16},
    {v1::PRUNING_METHOD_MAGNITUDE, Scheme::kPruned},
    {v1::PRUNING_METHOD_TWO_OF_FOUR, Scheme::kPruned2Of4}};
constexpr Row<v1::OutputFormat, Format> kFormats[] = {
    {v1::OUTPUT_FORMAT_UNSPECIFIED, Format::kCompressedTensors},
    {v1::OUTPUT_FORMAT_COMPRESSED_TENSORS, Format::kCompressedTensors},
    {v1::OUTPUT_FORMAT_GGUF, Format::kGguf},
    {v1::OUTPUT_FORMAT_DENSE, Format::kDense}};
constexpr Row<v1::ScaleRule, ScaleRule> kScaleRules[] = {
    {v1::SCALE_RULE_UNSPECIFIED, ScaleRule::kImportance},
    {v1::SCALE_RULE_SIGNED, ScaleRule::kSigned},
    {v1::SCALE_RULE_MINMAX, ScaleRule::kMinMax},
    {v1::SCALE_RULE_IMPORTANCE, ScaleRule::kImportance},
    {v1::SCALE_RULE_MSE, ScaleRule::kMse}};
constexpr Row<v1::Preserve, Preserve> kPreserves[] = {
    {v1::PRESERVE_UNSPECIFIED, Preserve::kTensor}, {v1::PRESERVE_TENSOR, Preserve::kTensor},
    {v1::PRESERVE_SCALE, Preserve::kScale},        {v1::PRESERVE_NONE, Preserve::kNone},
    {v1::PRESERVE_LORA, Preserve::kLora},          {v1::PRESERVE_RESTORE, Preserve::kRestore}};
constexpr Row<v1::ProofLevel, ProofLevel> kProofLevels[] = {
    {v1::PROOF_LEVEL_UNSPECIFIED, ProofLevel::kNone},
    {v1::PROOF_LEVEL_NONE, ProofLevel::kNone},
    {v1::PROOF_LEVEL_JOINT, ProofLevel::kJoint},
    {v1::PROOF_LEVEL_FULL, ProofLevel::kFull}};
constexpr Row<v1::WeightClass, WeightClass> kWeightClasses[] = {
    {v1::WEIGHT_CLASS_UNSPECIFIED, WeightClass::kUnproven},
    {v1::WEIGHT_CLASS_CRITICAL, WeightClass::kCritical},
    {v1::WEIGHT_CLASS_JOINT, WeightClass::kJoint},
    {v1::WEIGHT_CLASS_INERT, WeightClass::kInert}};
constexpr Row<v1::Verdict, Verdict> kVerdicts[] = {{v1::VERDICT_UNSPECIFIED, Verdict::kUnproven},
                                                   {v1::VERDICT_SINGLE, Verdict::kSingle},
                                                   {v1::VERDICT_SEVERAL, Verdict::kSeveral},
                                                   {v1::VERDICT_DISTRIBUTED, Verdict::kDistributed},
                                                   {v1::VERDICT_NONE, Verdict::kNone}};

// Proto3 enums are open: any number may arrive.
template <class Api, class Value, size_t kRows>
absl::StatusOr<Value> FromTable(const Row<Api, Value> (&table)[kRows], Api api,
                                std::string_view field) {
  for (const auto& row : table) {
    if (row.api == api) return row.value;
  }
  return Error(Reason::kOptionInvalid, field,
               fmt::format("{} is not a value that this server knows", static_cast<int>(api)),
               "GetCapabilities lists what is supported");
}

// The last match, since the first may be the default's second name.
template <class Api, class Value, size_t kRows>
Api ToTable(const Row<Api, Value> (&table)[kRows], Value value) {
  Api api = table[0].api;
  for (const auto& row : table) {
    if (row.value == value) api = row.api;
  }
  return api;
}

absl::StatusOr<int> PositiveOr(std::string_view field, int value, int least, int fallback) {
  if (value == 0) return fallback;
  if (value >= least) return value;
  return Error(Reason::kOptionInvalid, field, fmt::format("it is {}", value),
               fmt::format("give {} or more, or 0 for the default {}", least, fallback));
}

absl::Status CheckGroupSize(int32_t size) {
  for (const int allowed : {-1, 0, 32, 64, 128}) {
    if (size == allowed) return absl::OkStatus();
  }
  return Error(Reason::kOptionInvalid, "quantization.group_size", fmt::format("it is {}", size),
               "give 32, 64, 128, -1 for one scale per channel, or 0 to let the server choose");
}

v1::Preserve PreserveOf(std::string_view how) {
  if (how == "tensor") return v1::PRESERVE_TENSOR;
  if (how == "scale") return v1::PRESERVE_SCALE;
  if (how == "lora") return v1::PRESERVE_LORA;
  if (how == "restore") return v1::PRESERVE_RESTORE;
  return how == "none" ? v1::PRESERVE_NONE : v1::PRESERVE_UNSPECIFIED;
}

absl::Status SetThresholds(const google::protobuf::Map<std::string, double>& thresholds,
                           DetectOptions& options) {
  for (const auto& [name, value] : thresholds) {
    RETURN_IF_ERROR(SetThreshold(name, value, options));
  }
  return absl::OkStatus();
}

v1::SuperWeight ToProto(const SuperWeight& weight) {
  v1::SuperWeight message;
  message.set_tensor(ValidUtf8(weight.position.tensor));
  message.set_layer(weight.layer);
  message.set_row(weight.position.row);
  message.set_column(weight.position.column);
  message.set_value(weight.value);
  message.set_share(weight.share);
  if (weight.expert >= 0) message.set_expert(weight.expert);
  message.set_weight_only_rank(weight.weight_only_rank);
  if (weight.agreement) message.set_agreement(*weight.agreement);
  message.set_published(weight.published);
  message.set_weight_class(ToTable(kWeightClasses, weight.weight_class));
  return message;
}

v1::Suspect ToProto(const Suspect& suspect) {
  v1::Suspect message;
  message.set_tensor(ValidUtf8(suspect.position.tensor));
  message.set_layer(suspect.layer);
  if (suspect.expert >= 0) message.set_expert(suspect.expert);
  message.set_row(suspect.position.row);
  message.set_column(suspect.position.column);
  message.set_value(suspect.value);
  message.set_over_median(suspect.over_median);
  message.set_share(suspect.share);
  return message;
}

v1::SuperExpert ToProto(const SuperExpert& expert) {
  v1::SuperExpert message;
  message.set_layer(expert.layer);
  message.set_expert(expert.expert);
  message.set_output(expert.output.value);
  return message;
}

v1::TensorPlan ToProto(const PlanRow& row) {
  v1::TensorPlan message;
  message.set_name(ValidUtf8(row.source.info.name));
  message.set_quantized(row.quantized);
  message.set_kept_because(row.kept_because);
  message.set_group_size(row.quantized ? row.group_size : 0);
  message.set_bytes_in(row.bytes_in());
  message.set_bytes_out(row.bytes_out());
  if (!row.quantized) return message;
  message.set_scheme(ToTable(kSchemes, row.scheme));
  if (TraitsOf(row.scheme).codes != CodeKind::kNone) {
    message.set_scale(ToTable(kScaleRules, row.scale));
  }
  message.set_asymmetric(row.asymmetric);
  return message;
}

v1::RoundedModel ToProto(const RoundedModel& rounded) {
  v1::RoundedModel message;
  message.set_name(rounded.name);
  message.set_block(rounded.block);
  message.set_loss(rounded.loss);
  message.set_perplexity(rounded.perplexity);
  message.set_kl(rounded.kl);
  return message;
}

v1::AwqScale ToProto(const AwqScale& scale) {
  v1::AwqScale message;
  message.set_tensor(ValidUtf8(scale.position.tensor));
  message.set_row(scale.position.row);
  message.set_column(scale.position.column);
  message.set_exponent(scale.exponent);
  message.set_scale(scale.scale);
  message.set_median_scale(scale.median_scale);
  message.set_largest_scale(scale.largest_scale);
  message.set_error_ratio(scale.error_ratio);
  return message;
}

absl::StatusOr<AnalysisOptions> AnalysesOf(const v1::Analyses& analyses) {
  AnalysisOptions result;
  result.arms = analyses.arms();
  if (!analyses.blocks().empty()) {
    result.blocks.assign(analyses.blocks().begin(), analyses.blocks().end());
  }
  if (analyses.bits() != 0) result.bits = analyses.bits();
  if (analyses.z() != 0) result.z = analyses.z();
  result.activations = analyses.activations();
  if (analyses.smoothing() != 0) result.smoothing = analyses.smoothing();
  result.awq = analyses.awq();
  ASSIGN_OR_RETURN(result.calibration, FromProto(analyses.calibration(), "analyses.calibration"));
  RETURN_IF_ERROR(SetThresholds(analyses.thresholds(), result.detect));
  RETURN_IF_ERROR(CheckOptions(result));
  return result;
}

template <class Items, class Message>
void AddAll(const Items& items, Message* messages) {
  for (const auto& item : items) *messages->Add() = ToProto(item);
}

// Pruned weights are a scheme to the engine; what is left unspecified beside them
// is what they can be stored as and what spares the super weights.
absl::Status TakePruning(const v1::QuantizationOptions& options, QuantizeOptions& result) {
  const v1::Pruning& pruning = options.pruning();
  if (pruning.has_sparsity()) result.sparsity = pruning.sparsity();
  if (pruning.method() == v1::PRUNING_METHOD_UNSPECIFIED) return absl::OkStatus();
  if (options.scheme() != v1::SCHEME_UNSPECIFIED) {
    return Error(Reason::kOptionInvalid, "quantization.pruning",
                 "weights are pruned or have a scheme, not both", "leave one of them out");
  }
  ASSIGN_OR_RETURN(result.scheme,
                   FromTable(kPrunings, pruning.method(), "quantization.pruning.method"));
  if (options.format() == v1::OUTPUT_FORMAT_UNSPECIFIED) result.format = Format::kDense;
  if (options.preserve() == v1::PRESERVE_UNSPECIFIED) result.preserve = Preserve::kRestore;
  return absl::OkStatus();
}

}  // namespace

absl::Status RequirePath(std::string_view field, std::string_view path) {
  const bool leads = path.starts_with('/') || IsUri(path);
  if (leads && path.find('\0') == std::string_view::npos) return absl::OkStatus();
  return Error(Reason::kOptionInvalid, field,
               path.empty() ? "it is missing"
                            : fmt::format("\"{}\" is neither an absolute path nor a URI", path),
               "give an absolute path on the server, or a URI that it takes");
}

absl::StatusOr<QuantizeOptions> FromProto(const v1::QuantizationOptions& options) {
  QuantizeOptions result;
  RETURN_IF_ERROR(CheckGroupSize(options.group_size()));
  result.group_size = options.group_size();
  ASSIGN_OR_RETURN(result.scheme, FromTable(kSchemes, options.scheme(), "quantization.scheme"));
  ASSIGN_OR_RETURN(result.scale, FromTable(kScaleRules, options.scale(), "quantization.scale"));
  ASSIGN_OR_RETURN(result.preserve,
                   FromTable(kPreserves, options.preserve(), "quantization.preserve"));
  result.asymmetric = options.asymmetric();
  result.equalize = options.equalize();
  ASSIGN_OR_RETURN(result.format, FromTable(kFormats, options.format(), "quantization.format"));
  if (!options.gguf_donor().empty()) {
    RETURN_IF_ERROR(RequirePath("quantization.gguf_donor", options.gguf_donor()));
    result.gguf_donor = options.gguf_donor();
  }
  const v1::BlockOptions& blocks = options.blocks();
  if (blocks.bits() != 0) result.blocks.bits = blocks.bits();
  if (blocks.run() != 0) result.blocks.run = blocks.run();
  result.blocks.tile = blocks.tile();
  result.blocks.z = blocks.z();
  result.ignore.assign(options.ignore().begin(), options.ignore().end());
  result.include.assign(options.include().begin(), options.include().end());
  result.embeddings = options.embeddings();
  result.lm_head = options.lm_head();
  RETURN_IF_ERROR(TakePruning(options, result));
  return result;
}

absl::StatusOr<WindowOptions> FromProto(const v1::Windows& windows) {
  WindowOptions result;
  ASSIGN_OR_RETURN(result.size, PositiveOr("windows.size", windows.size(), 2, result.size));
  ASSIGN_OR_RETURN(result.count, PositiveOr("windows.count", windows.count(), 1, result.count));
  return result;
}

absl::StatusOr<TokenSource> FromProto(const v1::TokenSource& source, std::string_view field) {
  if (source.sequences_size() > 0 && !source.text().empty()) {
    return Error(Reason::kOptionInvalid, field, "it has both ids and a text", "give one of them");
  }
  TokenSource result{.text = source.text()};
  for (const v1::TokenSequence& sequence : source.sequences()) {
    result.ids.emplace_back(sequence.ids().begin(), sequence.ids().end());
  }
  return result;
}

absl::StatusOr<DetectRequest> FromProto(const v1::DetectionOptions& options) {
  DetectRequest result;
  ASSIGN_OR_RETURN(result.prompt, FromProto(options.prompt(), "detection.prompt"));
  ASSIGN_OR_RETURN(result.proof, FromTable(kProofLevels, options.proof(), "detection.proof"));
  ASSIGN_OR_RETURN(result.proof_tokens,
                   FromProto(options.proof_tokens(), "detection.proof_tokens"));
  ASSIGN_OR_RETURN(result.proof_windows, FromProto(options.proof_windows()));
  result.study = options.study();
  ASSIGN_OR_RETURN(result.prompts, PositiveOr("detection.prompts", options.prompts(), 1, 1));
  result.weights_only = options.weights_only();
  result.skip = options.skip();
  RETURN_IF_ERROR(SetThresholds(options.thresholds(), result.options));
  return result;
}

absl::StatusOr<CompressOptions> FromProto(const v1::DetectionOptions& detection,
                                          const v1::QuantizationOptions& quantization) {
  CompressOptions result;
  ASSIGN_OR_RETURN(result.detect, FromProto(detection));
  ASSIGN_OR_RETURN(result.quantize, FromProto(quantization));
  ASSIGN_OR_RETURN(result.calibration,
                   FromProto(quantization.calibration(), "quantization.calibration"));
  if (result.detect.skip && quantization.scale() == v1::SCALE_RULE_UNSPECIFIED &&
      NeedsImportance(result.quantize)) {
    result.quantize.scale = ScaleWithoutImportance(result.quantize);
  }
  result.source_digest = !quantization.skip_source_digest();
  return result;
}

absl::StatusOr<EvaluateRequest> FromProto(const v1::EvaluateCompressionRequest& request) {
  EvaluateRequest result{.against = request.against()};
  ASSIGN_OR_RETURN(result.tokens, FromProto(request.tokens(), "tokens"));
  ASSIGN_OR_RETURN(result.windows, FromProto(request.windows()));
  ASSIGN_OR_RETURN(result.analyses, AnalysesOf(request.analyses()));
  if (!result.tokens.empty() || result.analyses.any()) return result;
  return Error(Reason::kOptionInvalid, "tokens", "there are none", "give ids or a text");
}

v1::Progress ToProto(const Progress& progress) {
  v1::Progress message;
  message.set_stage(std::string(StageName(progress.stage)));
  message.set_item(ValidUtf8(progress.item));
  message.set_done_bytes(progress.done);
  message.set_total_bytes(progress.total);
  return message;
}

v1::Detection ToProto(const Detection& detection) {
  v1::Detection message;
  message.set_verdict(ToTable(kVerdicts, detection.verdict));
  AddAll(detection.super_weights, message.mutable_super_weights());
  AddAll(detection.super_experts, message.mutable_super_experts());
  message.set_weights_only(detection.suspects.has_value());
  if (detection.suspects) AddAll(*detection.suspects, message.mutable_suspects());
  if (detection.stability) {
    message.set_prompts(static_cast<int32_t>(detection.stability->prompts.size()));
    message.set_agreement(detection.stability->agreement);
  }
  for (const std::string& note : NotesOn(detection)) message.add_notes(ValidUtf8(note));
  if (!detection.proof) return message;
  const Proof& proof = *detection.proof;
  message.set_baseline_perplexity(proof.baseline_perplexity);
  message.set_judged_by_kl(proof.origin == TokenOrigin::kBuiltInIds);
  if (proof.joint) {
    message.set_joint_perplexity_ratio(proof.joint->perplexity_ratio);
    message.set_joint_kl(proof.joint->kl);
  }
  const int arms =
      std::min<int>(message.super_weights_size(), static_cast<int>(proof.alone.size()));
  for (int i = 0; i < arms; ++i) {
    message.mutable_super_weights(i)->set_perplexity_ratio(proof.alone[i].perplexity_ratio);
    message.mutable_super_weights(i)->set_kl(proof.alone[i].kl);
  }
  return message;
}

v1::KeptWeight ToProto(const KeptWeight& kept) {
  v1::KeptWeight message;
  message.set_tensor(ValidUtf8(kept.weight.position.tensor));
  message.set_row(kept.weight.position.row);
  message.set_column(kept.weight.position.column);
  message.set_source_value(kept.weight.value);
  message.set_stored_value(kept.stored_value);
  message.set_how(PreserveOf(kept.how));
  return message;
}

v1::CompressionResult ToProto(const CompressResult& result) {
  v1::CompressionResult message;
  if (result.detection) *message.mutable_detection() = ToProto(*result.detection);
  AddAll(result.kept, message.mutable_kept());
  message.set_bytes_in(result.bytes_in);
  message.set_bytes_out(result.bytes_out);
  for (const std::string& note : result.notes) message.add_notes(ValidUtf8(note));
  message.set_manifest_json(result.manifest);
  message.set_manifest_sha256(result.manifest_sha256);
  return message;
}

v1::PlanCompressionResponse ToProto(const Plan& plan) {
  v1::PlanCompressionResponse message;
  AddAll(plan.rows, message.mutable_tensors());
  message.set_group_size(static_cast<int32_t>(plan.group_size));
  message.set_bytes_in(plan.bytes_in());
  message.set_bytes_out(plan.bytes_out());
  for (const std::string& note : plan.notes) message.add_notes(ValidUtf8(note));
  return message;
}

v1::EvaluationResult ToProto(const Evaluation& evaluation) {
  v1::EvaluationResult message;
  message.set_loss(evaluation.loss);
  message.set_perplexity(evaluation.perplexity);
  message.set_tokens(evaluation.tokens);
  AddAll(evaluation.arms, message.mutable_arms());
  AddAll(evaluation.activations, message.mutable_activations());
  AddAll(evaluation.awq, message.mutable_awq());
  for (const std::string& note : evaluation.notes) message.add_notes(ValidUtf8(note));
  if (!evaluation.against) return message;
  v1::Comparison& against = *message.mutable_against();
  against.set_loss(evaluation.against->loss);
  against.set_perplexity(evaluation.against->perplexity);
  against.set_kl(evaluation.against->kl);
  return message;
}

v1::VerificationResult ToProto(const VerifyReport& report) {
  v1::VerificationResult message;
  message.set_matches(report.mismatches.empty());
  for (const std::string& mismatch : report.mismatches) {
    message.add_mismatches(ValidUtf8(mismatch));
  }
  message.set_files(report.files);
  AddAll(report.kept, message.mutable_kept());
  return message;
}

}  // namespace linchpin
