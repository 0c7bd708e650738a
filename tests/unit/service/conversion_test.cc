#include "service/conversion.h"

#include <string>

#include "base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/fake_engine.h"

namespace linchpin {
namespace {

template <class T>
Reason ReasonOfResult(const absl::StatusOr<T>& result) {
  return ReasonOf(result.status());
}

TEST(QuantizationOptionsFromProto, DefaultsAreThoseOfTheEngine) {
  const auto options = FromProto(v1::QuantizationOptions());
  ASSERT_TRUE(options.ok());
  EXPECT_EQ(options->scheme, QuantizeOptions().scheme);
  EXPECT_EQ(options->group_size, QuantizeOptions().group_size);
  EXPECT_EQ(options->scale, QuantizeOptions().scale);
  EXPECT_EQ(options->preserve, QuantizeOptions().preserve);
}

TEST(CompressOptionsFromProto, WithoutADetectionTheDefaultScaleNeedsNone) {
  v1::DetectionOptions detection;
  v1::QuantizationOptions quantization;
  EXPECT_EQ(FromProto(detection, quantization)->quantize.scale, ScaleRule::kImportance);
  detection.set_skip(true);
  EXPECT_TRUE(FromProto(detection, quantization)->detect.skip);
  EXPECT_EQ(FromProto(detection, quantization)->quantize.scale, ScaleRule::kSigned);
  quantization.set_asymmetric(true);
  EXPECT_EQ(FromProto(detection, quantization)->quantize.scale, ScaleRule::kMinMax);
  quantization.set_asymmetric(false);
  quantization.set_format(v1::OUTPUT_FORMAT_GGUF);
  EXPECT_EQ(FromProto(detection, quantization)->quantize.scale, ScaleRule::kMinMax);
  // Asked for by name it is left to be refused.
  quantization.set_scale(v1::SCALE_RULE_IMPORTANCE);
  EXPECT_EQ(FromProto(detection, quantization)->quantize.scale, ScaleRule::kImportance);
}

TEST(CompressOptionsFromProto, NormsAreLeftAloneUnlessAskedFor) {
  v1::QuantizationOptions quantization;
  EXPECT_FALSE(FromProto({}, quantization)->quantize.equalize);
  quantization.set_equalize(true);
  EXPECT_TRUE(FromProto({}, quantization)->quantize.equalize);
}

TEST(CompressOptionsFromProto, TheSourcesDigestIsTakenUnlessItIsLeftOut) {
  v1::QuantizationOptions quantization;
  EXPECT_TRUE(FromProto({}, quantization)->source_digest);
  quantization.set_skip_source_digest(true);
  EXPECT_FALSE(FromProto({}, quantization)->source_digest);
}

TEST(QuantizationOptionsFromProto, EveryValue) {
  v1::QuantizationOptions message;
  message.set_scheme(v1::SCHEME_W4A16);
  message.set_scale(v1::SCALE_RULE_MINMAX);
  message.set_preserve(v1::PRESERVE_SCALE);
  EXPECT_EQ(FromProto(message)->scale, ScaleRule::kMinMax);
  EXPECT_EQ(FromProto(message)->preserve, Preserve::kScale);
  message.set_scale(v1::SCALE_RULE_SIGNED);
  message.set_preserve(v1::PRESERVE_NONE);
  EXPECT_EQ(FromProto(message)->scale, ScaleRule::kSigned);
  EXPECT_EQ(FromProto(message)->preserve, Preserve::kNone);
  message.set_preserve(v1::PRESERVE_TENSOR);
  EXPECT_EQ(FromProto(message)->preserve, Preserve::kTensor);
  for (const int size : {-1, 0, 32, 64, 128}) {
    message.set_group_size(size);
    EXPECT_EQ(FromProto(message)->group_size, size);
  }
}

TEST(QuantizationOptionsFromProto, FormatsDonorsAndBlocks) {
  v1::QuantizationOptions message;
  EXPECT_EQ(FromProto(message)->format, Format::kCompressedTensors);
  EXPECT_EQ(FromProto(message)->blocks.bits, 4);
  EXPECT_EQ(FromProto(message)->blocks.run, 16384);
  message.set_format(v1::OUTPUT_FORMAT_GGUF);
  message.set_gguf_donor("/models/m.gguf");
  message.mutable_blocks()->set_bits(3);
  message.mutable_blocks()->set_tile(128);
  message.mutable_blocks()->set_z(9);
  EXPECT_EQ(FromProto(message)->format, Format::kGguf);
  EXPECT_EQ(FromProto(message)->gguf_donor, "/models/m.gguf");
  EXPECT_EQ(FromProto(message)->blocks.bits, 3);
  EXPECT_EQ(FromProto(message)->blocks.tile, 128);
  EXPECT_EQ(FromProto(message)->blocks.z, 9);
  message.set_gguf_donor("m.gguf");
  EXPECT_EQ(ReasonOfResult(FromProto(message)), Reason::kOptionInvalid);
}

TEST(QuantizationOptionsFromProto, PruningIsASchemeWithDefaultsOfItsOwn) {
  v1::QuantizationOptions message;
  message.mutable_pruning()->set_method(v1::PRUNING_METHOD_MAGNITUDE);
  auto options = FromProto(message);
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->scheme, Scheme::kPruned);
  EXPECT_EQ(options->format, Format::kDense);
  EXPECT_EQ(options->preserve, Preserve::kRestore);
  EXPECT_EQ(options->sparsity, 0.5);
  message.mutable_pruning()->set_sparsity(0);
  message.set_preserve(v1::PRESERVE_NONE);
  options = FromProto(message);
  ASSERT_TRUE(options.ok());
  EXPECT_EQ(options->sparsity, 0);
  EXPECT_EQ(options->preserve, Preserve::kNone);
  message.mutable_pruning()->set_method(v1::PRUNING_METHOD_TWO_OF_FOUR);
  EXPECT_EQ(FromProto(message)->scheme, Scheme::kPruned2Of4);
  message.set_scheme(v1::SCHEME_W4A16);
  EXPECT_EQ(ReasonOf(FromProto(message).status()), Reason::kOptionInvalid);
  message.Clear();
  message.set_embeddings(8);
  message.set_lm_head(4);
  EXPECT_EQ(FromProto(message)->embeddings, 8);
  EXPECT_EQ(FromProto(message)->lm_head, 4) << "CheckOptions refuses it";
  EXPECT_EQ(FromProto(message)->scheme, Scheme::kW4A16);
}

TEST(QuantizationOptionsFromProto, RefusesWhatItDoesNotKnow) {
  for (const int size : {-2, 1, 16, 33, 256, 1 << 30}) {
    v1::QuantizationOptions message;
    message.set_group_size(size);
    EXPECT_EQ(ReasonOfResult(FromProto(message)), Reason::kOptionInvalid) << size;
  }
  v1::QuantizationOptions message;
  message.set_scheme(static_cast<v1::Scheme>(77));
  EXPECT_EQ(ReasonOfResult(FromProto(message)), Reason::kOptionInvalid);
  EXPECT_THAT(std::string(FromProto(message).status().message()),
              testing::HasSubstr("quantization.scheme: 77"));
  message.Clear();
  message.set_scale(static_cast<v1::ScaleRule>(-1));
  EXPECT_EQ(ReasonOfResult(FromProto(message)), Reason::kOptionInvalid);
  message.Clear();
  message.set_preserve(static_cast<v1::Preserve>(9));
  EXPECT_EQ(ReasonOfResult(FromProto(message)), Reason::kOptionInvalid);
}

TEST(EnumsOfTheApi, AreAllKnown) {
  // A value that is added to the API without a row in the tables fails here.
  const auto check = [](const google::protobuf::EnumDescriptor* values, auto accepts) {
    for (int i = 0; i < values->value_count(); ++i) {
      EXPECT_TRUE(accepts(values->value(i)->number())) << values->value(i)->full_name();
    }
  };
  check(v1::Scheme_descriptor(), [](int value) {
    v1::QuantizationOptions message;
    message.set_scheme(static_cast<v1::Scheme>(value));
    return FromProto(message).ok();
  });
  check(v1::ScaleRule_descriptor(), [](int value) {
    v1::QuantizationOptions message;
    message.set_scale(static_cast<v1::ScaleRule>(value));
    return FromProto(message).ok();
  });
  check(v1::Preserve_descriptor(), [](int value) {
    v1::QuantizationOptions message;
    message.set_preserve(static_cast<v1::Preserve>(value));
    return FromProto(message).ok();
  });
  check(v1::OutputFormat_descriptor(), [](int value) {
    v1::QuantizationOptions message;
    message.set_format(static_cast<v1::OutputFormat>(value));
    return FromProto(message).ok();
  });
  check(v1::ProofLevel_descriptor(), [](int value) {
    v1::DetectionOptions message;
    message.set_proof(static_cast<v1::ProofLevel>(value));
    return FromProto(message).ok();
  });
}

TEST(TokenSourceFromProto, TakesIdsOrTextButNotBoth) {
  v1::TokenSource message;
  EXPECT_TRUE(FromProto(message, "tokens")->empty());
  message.add_sequences()->add_ids(7);
  message.mutable_sequences(0)->add_ids(8);
  message.add_sequences();
  const auto ids = FromProto(message, "tokens");
  ASSERT_TRUE(ids.ok());
  EXPECT_EQ(ids->ids, (std::vector<std::vector<int32_t>>{{7, 8}, {}}));
  message.set_text("and text");
  EXPECT_EQ(ReasonOfResult(FromProto(message, "tokens")), Reason::kOptionInvalid);
  message.clear_sequences();
  EXPECT_EQ(FromProto(message, "tokens")->text, "and text");
}

TEST(WindowsFromProto, ZeroIsTheDefault) {
  v1::Windows message;
  EXPECT_EQ(FromProto(message)->size, 256);
  EXPECT_EQ(FromProto(message)->count, 4);
  message.set_size(2);
  message.set_count(1);
  EXPECT_EQ(FromProto(message)->size, 2);
  EXPECT_EQ(FromProto(message)->count, 1);
  message.set_size(1);
  EXPECT_EQ(ReasonOfResult(FromProto(message)), Reason::kOptionInvalid);
  message.set_size(8);
  message.set_count(-1);
  EXPECT_EQ(ReasonOfResult(FromProto(message)), Reason::kOptionInvalid);
}

TEST(DetectionOptionsFromProto, AStudyIsAskedFor) {
  v1::DetectionOptions message;
  EXPECT_FALSE(FromProto(message)->study);
  message.set_study(true);
  EXPECT_TRUE(FromProto(message)->study);
}

TEST(EvaluateRequestFromProto, AnalysesNeedNoTokens) {
  v1::EvaluateCompressionRequest message;
  EXPECT_EQ(ReasonOf(FromProto(message).status()), Reason::kOptionInvalid);
  message.mutable_analyses()->set_arms(true);
  const auto defaults = FromProto(message);
  ASSERT_TRUE(defaults.ok()) << defaults.status();
  EXPECT_EQ(defaults->analyses.blocks.size(), 5U);
  EXPECT_EQ(defaults->analyses.z, 9);
  EXPECT_EQ(defaults->analyses.smoothing, 0.85);
  message.mutable_analyses()->add_blocks(-1);
  message.mutable_analyses()->set_bits(3);
  message.mutable_analyses()->set_z(4);
  (*message.mutable_analyses()->mutable_thresholds())["min_share"] = 0.5;
  const auto given = FromProto(message);
  ASSERT_TRUE(given.ok()) << given.status();
  EXPECT_EQ(given->analyses.blocks, std::vector<int64_t>{kWholeTensor});
  EXPECT_EQ(given->analyses.bits, 3);
  EXPECT_EQ(given->analyses.z, 4);
  message.mutable_analyses()->add_blocks(1);
  EXPECT_EQ(ReasonOf(FromProto(message).status()), Reason::kOptionInvalid);
}

TEST(EvaluationToProto, HoldsTheAnalyses) {
  Evaluation evaluation{.loss = 2, .perplexity = 7.389, .tokens = 5};
  evaluation.arms = {{"rtn", 64, 3, 20, 0.5}};
  evaluation.activations = {{"w8a8", 0, 2.5, 12, 0.25}};
  evaluation.awq = {{{"t", 1, 2}, 0.5, 12, 1, 20, 0.75}};
  evaluation.notes = {"a note"};
  const v1::EvaluationResult message = ToProto(evaluation);
  EXPECT_EQ(message.arms(0).name(), "rtn");
  EXPECT_EQ(message.arms(0).block(), 64);
  EXPECT_EQ(message.arms(0).kl(), 0.5);
  EXPECT_EQ(message.activations(0).perplexity(), 12);
  EXPECT_EQ(message.awq(0).column(), 2);
  EXPECT_EQ(message.awq(0).scale(), 12);
  EXPECT_EQ(message.awq(0).error_ratio(), 0.75);
  EXPECT_EQ(message.notes(0), "a note");
}

TEST(EvaluationToProto, ComparesWhereAnotherModelWasGiven) {
  Evaluation evaluation{.loss = 2, .perplexity = 7.389, .tokens = 5};
  EXPECT_FALSE(ToProto(evaluation).has_against());
  evaluation.against = {1.5, 4.4817, 0.25};
  const v1::EvaluationResult message = ToProto(evaluation);
  EXPECT_EQ(message.against().loss(), 1.5);
  EXPECT_EQ(message.against().perplexity(), 4.4817);
  EXPECT_EQ(message.against().kl(), 0.25);
}

TEST(DetectionOptionsFromProto, AProofNeedsNoTokens) {
  v1::DetectionOptions message;
  EXPECT_EQ(FromProto(message)->proof, ProofLevel::kNone);
  message.set_proof(v1::PROOF_LEVEL_JOINT);
  EXPECT_EQ(FromProto(message)->proof, ProofLevel::kJoint);
  EXPECT_TRUE(FromProto(message)->proof_tokens.empty());
  message.mutable_proof_tokens()->set_text("a text");
  message.mutable_proof_windows()->set_size(64);
  message.mutable_prompt()->add_sequences()->add_ids(3);
  const auto request = FromProto(message);
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->proof, ProofLevel::kJoint);
  message.set_proof(v1::PROOF_LEVEL_FULL);
  EXPECT_EQ(FromProto(message)->proof, ProofLevel::kFull);
  EXPECT_EQ(request->proof_tokens.text, "a text");
  EXPECT_EQ(request->proof_windows.size, 64);
  EXPECT_EQ(request->prompt.ids.at(0).at(0), 3);
}

TEST(DetectionOptionsFromProto, TakesPromptsAndThresholds) {
  v1::DetectionOptions message;
  EXPECT_EQ(FromProto(message)->prompts, 1);
  EXPECT_FALSE(FromProto(message)->weights_only);
  message.set_prompts(3);
  message.set_weights_only(true);
  (*message.mutable_thresholds())["min_share"] = 0.5;
  const auto request = FromProto(message);
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->prompts, 3);
  EXPECT_TRUE(request->weights_only);
  EXPECT_EQ(request->options.min_share, 0.5F);
  (*message.mutable_thresholds())["nothing"] = 0.5;
  EXPECT_EQ(ReasonOfResult(FromProto(message)), Reason::kOptionInvalid);
  message.clear_thresholds();
  message.set_prompts(-1);
  EXPECT_EQ(ReasonOfResult(FromProto(message)), Reason::kOptionInvalid);
}

TEST(RequirePath, TakesAbsolutePathsAndUrisOnly) {
  EXPECT_TRUE(RequirePath("source", "/models/m").ok());
  EXPECT_TRUE(RequirePath("source", "s3://b/k").ok());
  for (const std::string& path : {std::string(), std::string("relative"), std::string("s3:/b/k"),
                                  std::string("/with\0nul", 9)}) {
    EXPECT_EQ(ReasonOf(RequirePath("source", path)), Reason::kOptionInvalid) << path;
  }
}

TEST(DetectionToProto, CarriesWeightsAndProof) {
  const v1::Detection message = ToProto(SampleDetection());
  EXPECT_EQ(message.verdict(), v1::VERDICT_SEVERAL);
  ASSERT_EQ(message.super_weights_size(), 2);
  const v1::SuperWeight& weight = message.super_weights(0);
  EXPECT_EQ(weight.tensor(), "model.layers.1.mlp.down_proj.weight");
  EXPECT_EQ(weight.layer(), 1);
  EXPECT_EQ(weight.row(), 5);
  EXPECT_EQ(weight.column(), 7);
  EXPECT_EQ(weight.value(), -2.5F);
  EXPECT_EQ(weight.share(), 0.75F);
  EXPECT_EQ(weight.weight_class(), v1::WEIGHT_CLASS_CRITICAL);
  EXPECT_EQ(weight.perplexity_ratio(), 5.5);
  EXPECT_EQ(message.super_weights(1).weight_class(), v1::WEIGHT_CLASS_INERT);
  EXPECT_EQ(message.super_weights(1).perplexity_ratio(), 1.25);
  EXPECT_EQ(message.baseline_perplexity(), 25);
  EXPECT_EQ(message.joint_perplexity_ratio(), 100);
  EXPECT_EQ(message.joint_kl(), 4.5);
  EXPECT_EQ(message.super_weights(0).kl(), 1.5);
  EXPECT_FALSE(message.judged_by_kl());
  EXPECT_EQ(message.notes_size(), 0);
}

TEST(DetectionToProto, SaysThatAProofOnIdsIsNoProofOnText) {
  Detection detection = SampleDetection();
  detection.proof->origin = TokenOrigin::kBuiltInIds;
  detection.proof->no_text_because = "no tokenizer";
  const v1::Detection message = ToProto(detection);
  EXPECT_TRUE(message.judged_by_kl());
  ASSERT_EQ(message.notes_size(), 1);
  EXPECT_NE(message.notes(0).find("no tokenizer"), std::string::npos);
}

TEST(DetectionToProto, CarriesWhatWasFoundBesideWeights) {
  Detection detection = SampleDetection();
  detection.super_weights[0].expert = 3;
  detection.super_weights[0].agreement = 0.5;
  detection.super_weights[0].published = true;
  detection.super_weights[1].weight_only_rank = 2;
  detection.super_experts = {{.layer = 1, .expert = 3, .output = {.value = -90}}};
  detection.stability = Stability{.prompts = {{}, {}}, .agreement = 0.75};
  detection.suspects = {{.position = {"t", 5, 9}, .layer = 2, .value = -30, .over_median = 40}};
  const v1::Detection message = ToProto(detection);
  EXPECT_EQ(message.super_weights(0).expert(), 3);
  EXPECT_EQ(message.super_weights(0).agreement(), 0.5);
  EXPECT_TRUE(message.super_weights(0).published());
  EXPECT_FALSE(message.super_weights(1).has_expert());
  EXPECT_FALSE(message.super_weights(1).has_agreement());
  EXPECT_EQ(message.super_weights(1).weight_only_rank(), 2);
  ASSERT_EQ(message.super_experts_size(), 1);
  EXPECT_EQ(message.super_experts(0).output(), -90);
  EXPECT_EQ(message.prompts(), 2);
  EXPECT_EQ(message.agreement(), 0.75);
  EXPECT_TRUE(message.weights_only());
  ASSERT_EQ(message.suspects_size(), 1);
  EXPECT_EQ(message.suspects(0).row(), 5);
  EXPECT_EQ(message.suspects(0).column(), 9);
  EXPECT_EQ(message.suspects(0).over_median(), 40);
}

TEST(DetectionToProto, WithoutAProofNothingIsClaimed) {
  Detection detection = SampleDetection();
  detection.proof.reset();
  detection.verdict = Verdict::kUnproven;
  detection.super_weights[0].weight_class = WeightClass::kUnproven;
  const v1::Detection message = ToProto(detection);
  EXPECT_EQ(message.verdict(), v1::VERDICT_UNSPECIFIED);
  EXPECT_EQ(message.super_weights(0).weight_class(), v1::WEIGHT_CLASS_UNSPECIFIED);
  EXPECT_EQ(message.super_weights(0).perplexity_ratio(), 0);
  EXPECT_EQ(message.baseline_perplexity(), 0);
}

TEST(DetectionToProto, EveryVerdictAndClassHasItsValue) {
  Detection detection;
  const std::vector<std::pair<Verdict, v1::Verdict>> verdicts = {
      {Verdict::kSingle, v1::VERDICT_SINGLE},
      {Verdict::kSeveral, v1::VERDICT_SEVERAL},
      {Verdict::kDistributed, v1::VERDICT_DISTRIBUTED},
      {Verdict::kNone, v1::VERDICT_NONE}};
  for (const auto& [verdict, expected] : verdicts) {
    detection.verdict = verdict;
    EXPECT_EQ(ToProto(detection).verdict(), expected);
  }
  detection.super_weights.resize(1);
  detection.super_weights[0].weight_class = WeightClass::kJoint;
  EXPECT_EQ(ToProto(detection).super_weights(0).weight_class(), v1::WEIGHT_CLASS_JOINT);
}

TEST(ResultsToProto, KeptWeight) {
  const KeptWeight kept{.weight = {{"t", 1, 2}, 3.5F}, .stored_value = 3.25F, .how = "scale"};
  const v1::KeptWeight message = ToProto(kept);
  EXPECT_EQ(message.tensor(), "t");
  EXPECT_EQ(message.row(), 1);
  EXPECT_EQ(message.column(), 2);
  EXPECT_EQ(message.source_value(), 3.5F);
  EXPECT_EQ(message.stored_value(), 3.25F);
  EXPECT_EQ(message.how(), v1::PRESERVE_SCALE);
  EXPECT_EQ(ToProto(KeptWeight{.how = "tensor"}).how(), v1::PRESERVE_TENSOR);
  EXPECT_EQ(ToProto(KeptWeight{.how = "none"}).how(), v1::PRESERVE_NONE);
}

TEST(ResultsToProto, ProgressNamesItsStage) {
  const v1::Progress message = ToProto(Progress{Stage::kForward, "layer 3\xff", 5, 9});
  EXPECT_EQ(message.stage(), "forward");
  EXPECT_EQ(message.item(), "layer 3?");
  EXPECT_EQ(message.done_bytes(), 5U);
  EXPECT_EQ(message.total_bytes(), 9U);
}

TEST(ResultsToProto, VerificationMatchesWithoutMismatch) {
  EXPECT_TRUE(ToProto(VerifyReport{.files = 2}).matches());
  const v1::VerificationResult message =
      ToProto(VerifyReport{.mismatches = {"a", "b"}, .files = 2, .kept = {KeptWeight{}}});
  EXPECT_FALSE(message.matches());
  EXPECT_EQ(message.mismatches_size(), 2);
  EXPECT_EQ(message.files(), 2);
  EXPECT_EQ(message.kept_size(), 1);
}

TEST(ResultsToProto, PlanSumsItsRows) {
  Plan plan{.group_size = -1};
  PlanRow quantized;
  quantized.source.info = {"model.layers.0.mlp.up_proj.weight", DType::kBF16, {8, 64}};
  quantized.quantized = true;
  quantized.group_size = 64;
  quantized.outputs = {{"w_packed", DType::kI32, {8, 8}}, {"w_scale", DType::kBF16, {8, 1}}};
  PlanRow kept;
  kept.source.info = {"model.norm.weight", DType::kBF16, {64}};
  kept.kept_because = "norm";
  kept.outputs = {kept.source.info};
  plan.rows = {quantized, kept};
  const v1::PlanCompressionResponse message = ToProto(plan);
  EXPECT_EQ(message.group_size(), -1);
  EXPECT_EQ(message.bytes_in(), 8U * 64 * 2 + 128);
  EXPECT_EQ(message.bytes_out(), 8U * 8 * 4 + 16 + 128);
  ASSERT_EQ(message.tensors_size(), 2);
  EXPECT_EQ(message.tensors(0).group_size(), 64);
  EXPECT_EQ(message.tensors(0).bytes_out(), 8U * 8 * 4 + 16);
  EXPECT_EQ(message.tensors(1).group_size(), 0);
  EXPECT_EQ(message.tensors(1).kept_because(), "norm");
}

}  // namespace
}  // namespace linchpin
