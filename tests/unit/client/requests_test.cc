#include "client/requests.h"

#include <gtest/gtest.h>

#include "client/errors.h"
#include "tests/support/temporary_directory.h"

namespace linchpin {
namespace {

TEST(ParseIds, ReadsAList) {
  v1::TokenSource source;
  ASSERT_TRUE(ParseIds("1,22,2147483647", source).ok());
  ASSERT_EQ(source.sequences_size(), 1);
  EXPECT_EQ(std::vector<int>(source.sequences(0).ids().begin(), source.sequences(0).ids().end()),
            (std::vector<int>{1, 22, 2147483647}));
}

TEST(ParseIds, RefusesAnythingElse) {
  for (const char* text : {"", ",", "1,", ",1", "1,,2", "1 2", "-1", "x", "1.5", "2147483648"}) {
    v1::TokenSource source;
    EXPECT_EQ(ReasonOf(ParseIds(text, source)), "OPTION_INVALID") << text;
  }
}

TEST(ParseIdLists, ReadsListsOfAnyLength) {
  v1::TokenSource source;
  ASSERT_TRUE(ParseIdLists("f", "[[1, 2], [3]]", source).ok());
  ASSERT_EQ(source.sequences_size(), 2);
  EXPECT_EQ(source.sequences(0).ids_size(), 2);
  EXPECT_EQ(source.sequences(1).ids(0), 3);
}

TEST(ParseIdLists, RefusesAnythingElseByTheFilesName) {
  for (const char* json : {"", "[", "{}", "[]", "[1,2]", "[[]]", "[[1],2]", "[[-1]]", "[[1.5]]",
                           "[[\"1\"]]", "[[2147483648]]", "[[18446744073709551615]]", "null"}) {
    v1::TokenSource source;
    const grpc::Status status = ParseIdLists("ids.json", json, source);
    EXPECT_EQ(ReasonOf(status), "TOKENS_INVALID") << json;
    EXPECT_EQ(status.error_message().rfind("ids.json: ", 0), 0U) << json;
  }
}

TEST(MakeTokenSource, ReadsFiles) {
  const TemporaryDirectory scratch;
  scratch.Write("t.txt", "Once upon");
  scratch.Write("t.json", "[[5]]");
  v1::TokenSource text, ids, none;
  ASSERT_TRUE(MakeTokenSource({.text_file = scratch / "t.txt"}, text).ok());
  ASSERT_TRUE(MakeTokenSource({.ids_file = scratch / "t.json"}, ids).ok());
  ASSERT_TRUE(MakeTokenSource({}, none).ok());
  EXPECT_EQ(text.text(), "Once upon");
  EXPECT_EQ(ids.sequences(0).ids(0), 5);
  EXPECT_EQ(none.ByteSizeLong(), 0U);
}

TEST(MakeTokenSource, NamesAFileThatIsNotThere) {
  v1::TokenSource source;
  EXPECT_EQ(ReasonOf(MakeTokenSource({.ids_file = "/nowhere/x.json"}, source)), "SOURCE_NOT_FOUND");
}

TEST(MakeDetectionOptions, LeavesTheProofOutUnlessAskedFor) {
  CommandLine line;
  line.tokens.text = "hello";
  v1::DetectionOptions options;
  ASSERT_TRUE(MakeDetectionOptions(line, options).ok());
  EXPECT_EQ(options.prompt().text(), "hello");
  EXPECT_EQ(options.proof(), v1::PROOF_LEVEL_UNSPECIFIED);
  EXPECT_FALSE(options.has_proof_tokens());
  EXPECT_EQ(options.prompts(), 1);
  EXPECT_TRUE(options.thresholds().empty());
}

TEST(MakeDetectionOptions, CarriesAStudyWithoutAProof) {
  CommandLine line;
  line.proof.study = true;
  line.proof.windows.size = 128;
  v1::DetectionOptions options;
  ASSERT_TRUE(MakeDetectionOptions(line, options).ok());
  EXPECT_TRUE(options.study());
  EXPECT_EQ(options.proof(), v1::PROOF_LEVEL_NONE);
  EXPECT_EQ(options.proof_windows().size(), 128);
}

TEST(MakeDetectionOptions, CarriesTheProofsTokensAndWindows) {
  const TemporaryDirectory scratch;
  scratch.Write("t.json", "[[5, 6]]");
  CommandLine line;
  line.proof = {"joint", {.ids_file = scratch / "t.json"}, {128, 9}};
  v1::DetectionOptions options;
  ASSERT_TRUE(MakeDetectionOptions(line, options).ok());
  EXPECT_EQ(options.proof(), v1::PROOF_LEVEL_JOINT);
  EXPECT_EQ(options.proof_tokens().sequences(0).ids_size(), 2);
  EXPECT_EQ(options.proof_windows().size(), 128);
  EXPECT_EQ(options.proof_windows().count(), 9);
  line.proof.level = "full";
  ASSERT_TRUE(MakeDetectionOptions(line, options).ok());
  EXPECT_EQ(options.proof(), v1::PROOF_LEVEL_FULL);
}

TEST(MakeQuantizationOptions, MapsEveryChoice) {
  const auto make = [](const QuantizationChoices& choices) {
    v1::QuantizationOptions options;
    EXPECT_TRUE(MakeQuantizationOptions(choices, options).ok());
    return options;
  };
  EXPECT_EQ(make({}).scheme(), v1::SCHEME_W4A16);
  EXPECT_EQ(make({}).group_size(), 0);
  EXPECT_EQ(make({.group_size = "64"}).group_size(), 64);
  EXPECT_EQ(make({.group_size = "channel"}).group_size(), -1);
  EXPECT_EQ(make({.scheme = "w8a8"}).scheme(), v1::SCHEME_W8A8);
  EXPECT_EQ(make({.scheme = "fp8"}).scheme(), v1::SCHEME_FP8);
  EXPECT_FALSE(make({}).asymmetric());
  EXPECT_TRUE(make({.asymmetric = true}).asymmetric());
  EXPECT_FALSE(make({}).equalize());
  EXPECT_TRUE(make({.equalize = true}).equalize());
  EXPECT_EQ(make({}).scale(), v1::SCALE_RULE_UNSPECIFIED);
  EXPECT_EQ(make({.scale = "importance"}).scale(), v1::SCALE_RULE_IMPORTANCE);
  EXPECT_FALSE(make({}).skip_source_digest());
  EXPECT_TRUE(make({.source_digest = "off"}).skip_source_digest());
  EXPECT_EQ(make({.scale = "signed"}).scale(), v1::SCALE_RULE_SIGNED);
  EXPECT_EQ(make({.scale = "minmax"}).scale(), v1::SCALE_RULE_MINMAX);
  EXPECT_EQ(make({}).preserve(), v1::PRESERVE_TENSOR);
  EXPECT_EQ(make({.preserve = "scale"}).preserve(), v1::PRESERVE_SCALE);
  EXPECT_EQ(make({.preserve = "none"}).preserve(), v1::PRESERVE_NONE);
  const v1::QuantizationOptions named = make({.ignore = {"a", "b*"}, .include = {"c"}});
  EXPECT_EQ(named.ignore_size(), 2);
  EXPECT_EQ(named.ignore(1), "b*");
  EXPECT_EQ(named.include(0), "c");
}

TEST(MakeQuantizationOptions, PruningSaysNothingThatWasNotGiven) {
  v1::QuantizationOptions options;
  ASSERT_TRUE(
      MakeQuantizationOptions({.scheme = "", .format = "", .preserve = "", .prune = "2:4"}, options)
          .ok());
  EXPECT_EQ(options.scheme(), v1::SCHEME_UNSPECIFIED);
  EXPECT_EQ(options.format(), v1::OUTPUT_FORMAT_UNSPECIFIED);
  EXPECT_EQ(options.preserve(), v1::PRESERVE_UNSPECIFIED);
  EXPECT_EQ(options.pruning().method(), v1::PRUNING_METHOD_TWO_OF_FOUR);
  EXPECT_FALSE(options.pruning().has_sparsity());
  ASSERT_TRUE(MakeQuantizationOptions({.prune = "magnitude", .sparsity = 0}, options).ok());
  EXPECT_EQ(options.pruning().method(), v1::PRUNING_METHOD_MAGNITUDE);
  EXPECT_TRUE(options.pruning().has_sparsity());
  options.Clear();
  ASSERT_TRUE(MakeQuantizationOptions({.embeddings = 8, .lm_head = 8}, options).ok());
  EXPECT_EQ(options.embeddings(), 8);
  EXPECT_EQ(options.lm_head(), 8);
  EXPECT_FALSE(options.has_pruning());
}

TEST(MakeQuantizationOptions, TakesRunsAndTiles) {
  v1::QuantizationOptions options;
  ASSERT_TRUE(MakeQuantizationOptions({.format = "dense"}, options).ok());
  EXPECT_EQ(options.format(), v1::OUTPUT_FORMAT_DENSE);
  EXPECT_EQ(options.blocks().run(), 16384);
  EXPECT_EQ(options.blocks().tile(), 0);
  options.Clear();
  ASSERT_TRUE(MakeQuantizationOptions({.block = "128x128", .z = 9}, options).ok());
  EXPECT_EQ(options.blocks().run(), 0);
  EXPECT_EQ(options.blocks().tile(), 128);
  EXPECT_EQ(options.blocks().z(), 9);
  for (const char* wrong : {"", "x", "0", "-4", "128x64", "12k", "128x"}) {
    EXPECT_FALSE(MakeQuantizationOptions({.block = wrong}, options).ok()) << wrong;
  }
}

TEST(MakeQuantizationOptions, TakesCalibrationTokensByTheNameOfTheirFile) {
  const TemporaryDirectory scratch;
  scratch.Write("ids.json", "[[5, 6], [7]]");
  scratch.Write("words.txt", "hello there");
  v1::QuantizationOptions ids;
  ASSERT_TRUE(MakeQuantizationOptions({.calibration_file = scratch / "ids.json"}, ids).ok());
  EXPECT_EQ(ids.calibration().sequences_size(), 2);
  v1::QuantizationOptions words;
  ASSERT_TRUE(MakeQuantizationOptions({.calibration_file = scratch / "words.txt"}, words).ok());
  EXPECT_EQ(words.calibration().text(), "hello there");
  v1::QuantizationOptions none;
  EXPECT_FALSE(MakeQuantizationOptions({.calibration_file = scratch / "none.txt"}, none).ok());
}

TEST(MakeAnalyses, AreEmptyUnlessAskedFor) {
  v1::Analyses none;
  ASSERT_TRUE(MakeAnalyses({}, none).ok());
  EXPECT_EQ(none.ByteSizeLong(), 0U);
  CommandLine line;
  line.analyses.arms = true;
  line.analyses.blocks = {"64", "tensor"};
  line.look.thresholds = {"min_share=0.5"};
  v1::Analyses analyses;
  ASSERT_TRUE(MakeAnalyses(line, analyses).ok());
  ASSERT_EQ(analyses.blocks_size(), 2);
  EXPECT_EQ(analyses.blocks(0), 64);
  EXPECT_EQ(analyses.blocks(1), -1);
  EXPECT_EQ(analyses.bits(), 4);
  EXPECT_EQ(analyses.z(), 9);
  EXPECT_EQ(analyses.thresholds().at("min_share"), 0.5);
  for (const char* wrong : {"", "x", "64x64", "0", "1.5"}) {
    line.analyses.blocks = {wrong};
    v1::Analyses refused;
    EXPECT_FALSE(MakeAnalyses(line, refused).ok()) << wrong;
  }
}

TEST(ParseThreshold, IsANameAndANumber) {
  Thresholds thresholds;
  EXPECT_TRUE(ParseThreshold("min_share=0.5", thresholds).ok());
  EXPECT_TRUE(ParseThreshold("top_weights=1e9", thresholds).ok());
  EXPECT_EQ(thresholds.at("min_share"), 0.5);
  EXPECT_EQ(thresholds.at("top_weights"), 1e9);
  for (const char* wrong : {"", "min_share", "=1", "min_share=", "min_share=x", "min_share=1x"}) {
    EXPECT_FALSE(ParseThreshold(wrong, thresholds).ok()) << wrong;
  }
  EXPECT_EQ(thresholds.size(), 2U);
}

}  // namespace
}  // namespace linchpin
