#include "client/tables.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace linchpin {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(TableText, AlignsItsColumns) {
  EXPECT_EQ(TableText({{"name", "n", "class"}, {"a", "10", "x"}, {"longer", "5", "yes"}}),
            "  name     n  class\n"
            "  a       10  x\n"
            "  longer   5  yes\n");
}

v1::Detection ProvenDetection() {
  v1::Detection detection;
  detection.set_verdict(v1::VERDICT_SEVERAL);
  detection.set_baseline_perplexity(25.1);
  detection.set_joint_perplexity_ratio(61662);
  v1::SuperWeight* weight = detection.add_super_weights();
  weight->set_tensor("model.layers.11.mlp.down_proj.weight");
  weight->set_layer(11);
  weight->set_row(507);
  weight->set_column(1229);
  weight->set_value(5.875F);
  weight->set_share(0.724F);
  weight->set_weight_class(v1::WEIGHT_CLASS_CRITICAL);
  weight->set_perplexity_ratio(5.58);
  return detection;
}

TEST(DetectionText, ShowsVerdictProofAndEveryWeight) {
  const std::string text = DetectionText(ProvenDetection());
  EXPECT_THAT(text, HasSubstr("verdict         several: "));
  EXPECT_THAT(text, HasSubstr("25.1 untouched, x61,662 without the super weights"));
  EXPECT_THAT(text, HasSubstr("model.layers.11.mlp.down_proj.weight     11  507    1229  5.875  "
                              "0.724   x5.58  critical\n"));
}

TEST(DetectionText, SaysThatNothingWasProvenOrFound) {
  v1::Detection detection = ProvenDetection();
  detection.clear_baseline_perplexity();
  detection.clear_verdict();
  detection.mutable_super_weights(0)->clear_perplexity_ratio();
  detection.mutable_super_weights(0)->clear_weight_class();
  const std::string unproven = DetectionText(detection);
  EXPECT_THAT(unproven, HasSubstr("verdict         unproven: "));
  EXPECT_THAT(unproven, HasSubstr("-  unproven"));
  EXPECT_THAT(unproven, Not(HasSubstr("untouched")));
  detection.clear_super_weights();
  EXPECT_THAT(DetectionText(detection), HasSubstr("super weights   none\n"));
}

TEST(DetectionText, ShowsDivergenceWhereThatIsWhatDecides) {
  v1::Detection detection = ProvenDetection();
  detection.set_judged_by_kl(true);
  detection.set_joint_kl(9.25);
  detection.mutable_super_weights(0)->set_kl(1.625);
  detection.add_notes("the proof ran on fixed ids");
  const std::string text = DetectionText(detection);
  EXPECT_THAT(text, HasSubstr("divergence      9.25 nats per token without the super weights\n"));
  EXPECT_THAT(text, HasSubstr("note            the proof ran on fixed ids\n"));
  EXPECT_THAT(text, HasSubstr("1.62  critical\n"));
  EXPECT_THAT(text, Not(HasSubstr("61,662")));
  EXPECT_THAT(text, Not(HasSubstr("x5.58")));
}

TEST(DetectionText, ShowsSuspectsWhereWeightsAloneWereAskedFor) {
  v1::Detection detection;
  detection.set_weights_only(true);
  v1::Suspect* suspect = detection.add_suspects();
  suspect->set_tensor("model.layers.1.mlp.down_proj.weight");
  suspect->set_layer(1);
  suspect->set_row(5);
  suspect->set_column(9);
  suspect->set_value(-30);
  suspect->set_over_median(41.25);
  suspect->set_share(0.9375);
  const std::string text = DetectionText(detection);
  EXPECT_THAT(text, HasSubstr("model.layers.1.mlp.down_proj.weight      1    5       9    -30      "
                              "41.2  0.938\n"));
  EXPECT_THAT(text, Not(HasSubstr("super weights   none")));
}

TEST(DetectionText, ShowsAgreementAndSuperExperts) {
  v1::Detection detection = ProvenDetection();
  detection.set_prompts(7);
  detection.set_agreement(0.5);
  v1::SuperExpert* expert = detection.add_super_experts();
  expert->set_layer(1);
  expert->set_expert(68);
  expert->set_output(-122.25);
  const std::string text = DetectionText(detection);
  EXPECT_THAT(text, HasSubstr("agreement       0.50 over 7 prompts\n"));
  EXPECT_THAT(text, HasSubstr("super expert    layer 1 expert 68, output -122.25\n"));
}

v1::KeptWeight Kept(float stored) {
  v1::KeptWeight kept;
  kept.set_tensor("t");
  kept.set_row(1);
  kept.set_column(2);
  kept.set_source_value(0.5F);
  kept.set_stored_value(stored);
  kept.set_how(v1::PRESERVE_SCALE);
  return kept;
}

TEST(CompressionText, ShowsSizesKeptWeightsAndNotes) {
  v1::CompressionResult result;
  *result.mutable_detection() = ProvenDetection();
  *result.add_kept() = Kept(0.5F);
  *result.add_kept() = Kept(0.25F);
  result.set_bytes_in(4'000'000);
  result.set_bytes_out(1'000'000);
  result.add_notes("one tensor has rows of 172");
  result.set_manifest_sha256("abc");
  const std::string text = CompressionText(result, "/out");
  EXPECT_THAT(text, HasSubstr("4.00 MB -> 1.00 MB (4.00 times smaller)"));
  EXPECT_THAT(text, HasSubstr("t[1,2]          0.5     0.5  scale  bit for bit\n"));
  EXPECT_THAT(text, HasSubstr("t[1,2]          0.5    0.25  scale  NO\n"));
  EXPECT_THAT(text, HasSubstr("note            one tensor has rows of 172\n"));
  EXPECT_THAT(text, HasSubstr("written         /out\n"));
}

TEST(PlanText, SaysWhatBecomesOfEveryTensor) {
  v1::PlanCompressionResponse plan;
  plan.set_group_size(-1);
  plan.set_bytes_in(1000);
  plan.set_memory_bytes(5000);
  v1::TensorPlan* tensor = plan.add_tensors();
  tensor->set_name("a");
  tensor->set_quantized(true);
  tensor->set_group_size(64);
  tensor->set_scheme(v1::SCHEME_W4A16);
  tensor->set_scale(v1::SCALE_RULE_IMPORTANCE);
  tensor = plan.add_tensors();
  tensor->set_name("b");
  tensor->set_kept_because("a norm");
  const std::string text = PlanText(plan);
  EXPECT_THAT(text, HasSubstr("w4a16, 64 per scale, importance"));
  EXPECT_THAT(text, HasSubstr("as it is: a norm"));
  EXPECT_THAT(text, HasSubstr("one scale per channel"));
  EXPECT_THAT(text, HasSubstr("memory          5.00 kB"));
}

TEST(VerificationText, ListsMismatches) {
  v1::VerificationResult result;
  result.set_matches(true);
  result.set_files(4);
  EXPECT_EQ(VerificationText(result), "matches         4 files checked\n");
  result.set_matches(false);
  result.add_mismatches("model.safetensors: other digest");
  EXPECT_EQ(VerificationText(result),
            "DOES NOT MATCH  4 files checked\n  model.safetensors: other digest\n");
}

TEST(EvaluationText, ShowsLossAndPerplexity) {
  v1::EvaluationResult result;
  result.set_loss(3.0380001);
  result.set_perplexity(20.8634);
  result.set_tokens(5538);
  EXPECT_EQ(EvaluationText(result),
            "loss            3.0380 nats\nperplexity      20.8634\ntokens          5,538\n");
  result.mutable_against()->set_loss(3.5);
  result.mutable_against()->set_perplexity(33.1155);
  result.mutable_against()->set_kl(0.25);
  EXPECT_EQ(EvaluationText(result),
            "loss            3.0380 nats\nperplexity      20.8634\ntokens          5,538\n"
            "against         loss 3.5000 nats, perplexity 33.1155\n"
            "divergence      0.250000 nats per token from it\n");
}

v1::RoundedModel Rounded(const char* name, int64_t block, double perplexity, double kl) {
  v1::RoundedModel model;
  model.set_name(name);
  model.set_block(block);
  model.set_perplexity(perplexity);
  model.set_kl(kl);
  return model;
}

TEST(EvaluationText, ShowsAnalysesAsTables) {
  v1::EvaluationResult result;
  result.set_perplexity(25.5);
  *result.add_arms() = Rounded("rtn", 16384, 30, 0.5);
  *result.add_arms() = Rounded("rtn_clip", 16384, 29, 0.25);
  *result.add_arms() = Rounded("rtn", -1, 99, 2);
  *result.add_arms() = Rounded("rtn_clip", -1, 40, 1);
  *result.add_activations() = Rounded("w8a8", 0, 26, 0.125);
  v1::AwqScale* scale = result.add_awq();
  scale->set_tensor("t");
  scale->set_scale(12);
  scale->set_median_scale(0.5);
  result.add_notes("a note");
  const std::string text = EvaluationText(result);
  EXPECT_THAT(text, HasSubstr("note            a note\n"
                              "  block         rtn  divergence  rtn_clip  divergence\n"
                              "  16384          30         0.5        29  0.25\n"
                              "  whole tensor   99           2        40  1\n"));
  EXPECT_THAT(text, HasSubstr("  original           25.5  0\n"));
  EXPECT_THAT(text, HasSubstr("  w8a8                 26  0.125\n"));
  EXPECT_THAT(text, HasSubstr("t[0,0]"));
  EXPECT_THAT(text, HasSubstr(" 24 "));
}

TEST(CapabilitiesText, NamesEverything) {
  v1::GetCapabilitiesResponse capabilities;
  capabilities.set_version("0.1.0");
  capabilities.add_families("llama");
  capabilities.add_scale_rules("signed");
  capabilities.add_scale_rules("minmax");
  capabilities.set_chunk_bytes(1 << 20);
  const std::string text = CapabilitiesText(capabilities);
  EXPECT_THAT(text, HasSubstr("families        llama\n"));
  EXPECT_THAT(text, HasSubstr("scales          signed, minmax\n"));
  EXPECT_THAT(text, HasSubstr("chunks of 1.05 MB"));
}

}  // namespace
}  // namespace linchpin
