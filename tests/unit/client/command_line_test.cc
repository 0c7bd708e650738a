#include "client/command_line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

namespace linchpin {
namespace {

using testing::HasSubstr;

struct Parsed {
  std::optional<int> exit_code;
  CommandLine line;
  std::string out, err;
};

Parsed Parse(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "linchpin");
  Parsed parsed;
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  parsed.exit_code =
      ParseCommandLine(static_cast<int>(arguments.size()), arguments.data(), parsed.line);
  parsed.out = testing::internal::GetCapturedStdout();
  parsed.err = testing::internal::GetCapturedStderr();
  return parsed;
}

TEST(CommandLine, HasTheDefaultsOfTheContract) {
  const Parsed parsed = Parse({"compress", "model", "out"});
  ASSERT_EQ(parsed.exit_code, std::nullopt) << parsed.err;
  const CommandLine& line = parsed.line;
  EXPECT_EQ(line.command, "compress");
  EXPECT_EQ(line.model, "model");
  EXPECT_EQ(line.output, "out");
  EXPECT_EQ(line.quantization.scheme, "w4a16");
  EXPECT_EQ(line.quantization.format, "compressed-tensors");
  EXPECT_EQ(line.quantization.group_size, "auto");
  EXPECT_EQ(line.quantization.scale, "");
  EXPECT_EQ(line.look.detection, "on");
  EXPECT_EQ(line.quantization.preserve, "tensor");
  EXPECT_EQ(line.proof.level, "none");
  EXPECT_FALSE(line.overwrite || line.upload || line.json || line.quiet);
}

TEST(CommandLine, TakesGlobalOptionsBeforeAndAfterTheCommand) {
  for (auto arguments :
       {std::vector<const char*>{"--json", "--endpoint", "localhost:1", "verify", "d"},
        std::vector<const char*>{"verify", "d", "--endpoint", "localhost:1", "--json"}}) {
    const Parsed parsed = Parse(arguments);
    ASSERT_EQ(parsed.exit_code, std::nullopt) << parsed.err;
    EXPECT_TRUE(parsed.line.json);
    EXPECT_EQ(parsed.line.connection.endpoint, "localhost:1");
    EXPECT_EQ(parsed.line.model, "d");
  }
}

TEST(CommandLine, ReadsAllOfDetect) {
  const Parsed parsed =
      Parse({"detect", "m", "--tokens", "1,2,3", "--proof", "joint", "--proof-text", "t",
             "--proof-window", "256", "--proof-windows", "4", "--out", "f"});
  ASSERT_EQ(parsed.exit_code, std::nullopt) << parsed.err;
  EXPECT_EQ(parsed.line.tokens.ids, "1,2,3");
  EXPECT_EQ(parsed.line.proof.level, "joint");
  EXPECT_EQ(parsed.line.proof.tokens.text_file, "t");
  EXPECT_EQ(parsed.line.proof.windows.size, 256);
  EXPECT_EQ(parsed.line.proof.windows.count, 4);
  EXPECT_EQ(parsed.line.report_file, "f");
}

TEST(CommandLine, PruningLeavesToTheServerWhatIsNotGiven) {
  const Parsed plain = Parse({"compress", "m", "o", "--prune", "magnitude", "--sparsity", "0.7"});
  ASSERT_EQ(plain.exit_code, std::nullopt) << plain.err;
  EXPECT_EQ(plain.line.quantization.prune, "magnitude");
  EXPECT_EQ(plain.line.quantization.sparsity, 0.7);
  EXPECT_EQ(plain.line.quantization.scheme, "");
  EXPECT_EQ(plain.line.quantization.format, "");
  EXPECT_EQ(plain.line.quantization.preserve, "");
  const Parsed given =
      Parse({"plan", "m", "--prune", "2:4", "--format", "gguf", "--preserve", "none"});
  ASSERT_EQ(given.exit_code, std::nullopt) << given.err;
  EXPECT_EQ(given.line.quantization.format, "gguf");
  EXPECT_EQ(given.line.quantization.preserve, "none");
  for (const auto& wrong : {std::vector<const char*>{"--prune", "wanda"},
                            {"--sparsity", "0.5"},
                            {"--prune", "magnitude", "--sparsity", "1.5"},
                            {"--prune", "magnitude", "--scheme", "w4a16"},
                            {"--embeddings", "4"},
                            {"--lm-head", "16"}}) {
    std::vector<const char*> arguments = {"compress", "m", "o"};
    arguments.insert(arguments.end(), wrong.begin(), wrong.end());
    EXPECT_EQ(Parse(arguments).exit_code, 2) << wrong[0];
  }
}

TEST(CommandLine, AStudyMayHaveTokensWithoutAProof) {
  const Parsed parsed = Parse({"compress", "m", "o", "--study", "--proof-text", "t"});
  ASSERT_EQ(parsed.exit_code, std::nullopt) << parsed.err;
  EXPECT_TRUE(parsed.line.proof.study);
  EXPECT_EQ(parsed.line.proof.level, "none");
  EXPECT_FALSE(Parse({"detect", "m"}).line.proof.study);
}

TEST(CommandLine, ReadsAllOfEvaluate) {
  const Parsed parsed =
      Parse({"evaluate", "m", "--text-file", "t", "--window", "512", "--windows", "8"});
  ASSERT_EQ(parsed.exit_code, std::nullopt) << parsed.err;
  EXPECT_EQ(parsed.line.tokens.text_file, "t");
  EXPECT_EQ(parsed.line.windows.size, 512);
  EXPECT_EQ(parsed.line.windows.count, 8);
  EXPECT_EQ(Parse({"evaluate", "m", "--tokens", "f"}).line.tokens.ids_file, "f");
  EXPECT_EQ(Parse({"evaluate", "m", "--tokens", "f", "--against", "o"}).line.against, "o");
}

TEST(CommandLine, ReadsAllOfReport) {
  const Parsed parsed = Parse({"report", "a.json", "dir", "--out", "page.html"});
  ASSERT_EQ(parsed.exit_code, std::nullopt) << parsed.err;
  EXPECT_THAT(parsed.line.manifests, testing::ElementsAre("a.json", "dir"));
  EXPECT_EQ(parsed.line.report_file, "page.html");
  EXPECT_EQ(Parse({"report", "a.json"}).exit_code, 2);
  EXPECT_EQ(Parse({"report", "--out", "page.html"}).exit_code, 2);
}

TEST(CommandLine, ReadsTheAnalysesOfEvaluate) {
  const Parsed parsed =
      Parse({"evaluate", "m", "--arms", "--blocks", "64,tensor", "--bits", "3", "--z", "7.5",
             "--activations", "--smoothing", "0.5", "--awq", "--calibration", "c"});
  ASSERT_EQ(parsed.exit_code, std::nullopt) << parsed.err;
  const AnalysisChoices& analyses = parsed.line.analyses;
  EXPECT_TRUE(analyses.arms && analyses.activations && analyses.awq);
  EXPECT_EQ(analyses.blocks, (std::vector<std::string>{"64", "tensor"}));
  EXPECT_EQ(analyses.bits, 3);
  EXPECT_EQ(analyses.z, 7.5F);
  EXPECT_EQ(analyses.smoothing, 0.5);
  EXPECT_EQ(analyses.calibration_file, "c");
  EXPECT_FALSE(Parse({"evaluate", "m", "--tokens", "f"}).line.analyses.any());
}

TEST(CommandLine, ListsTheChoicesForAnUnknownValue) {
  const std::pair<std::vector<const char*>, const char*> kCases[] = {
      {{"compress", "m", "o", "--scale", "x"}, "{signed,minmax,importance,mse}"},
      {{"compress", "m", "o", "--scheme", "x"}, "{w4a16,w8a16,w8a8,fp8,q4_0,"},
      {{"compress", "m", "o", "--format", "onnx"}, "{compressed-tensors,gguf,dense}"},
      {{"compress", "m", "o", "--preserve", "hope"}, "{tensor,scale,none,lora,restore}"},
      {{"plan", "m", "--group-size", "100"}, "{auto,32,64,128,channel}"},
      {{"detect", "m", "--proof", "half"}, "{none,joint,full}"},
      {{"nope"},
       "{capabilities,demo-model,plan,detect,compress,compress-shard,compress-shards,"
       "finalize,evaluate,verify,report}"},
      {{},
       "{capabilities,demo-model,plan,detect,compress,compress-shard,compress-shards,"
       "finalize,evaluate,verify,report}"},
  };
  for (const auto& [arguments, choices] : kCases) {
    const Parsed parsed = Parse(arguments);
    EXPECT_EQ(parsed.exit_code, 2);
    EXPECT_THAT(parsed.err, HasSubstr(choices));
    EXPECT_EQ(parsed.out, "");
  }
}

TEST(CommandLine, RefusesWhatDoesNotFitTogether) {
  const std::vector<std::vector<const char*>> kCases = {
      {"compress", "m"},
      {"detect"},
      {"verify"},
      {"demo-model"},
      {"detect", "m", "--tokens", "1", "--text", "x"},
      {"detect", "m", "--text", "x", "--text-file", "f"},
      {"detect", "m", "--proof-text", "f"},
      {"detect", "m", "--proof", "joint", "--proof-text", "f", "--proof-tokens", "g"},
      {"detect", "m", "--proof-window", "1"},
      {"detect", "m", "--weights-only", "--text", "x"},
      {"detect", "m", "--weights-only", "--prompts", "2"},
      {"detect", "m", "--weights-only", "--proof", "joint"},
      {"detect", "m", "--prompts", "0"},
      {"detect", "m", "--prompts", "8"},
      {"evaluate", "m"},
      {"evaluate", "m", "--tokens", "f", "--text-file", "g"},
      {"evaluate", "m", "--tokens", "f", "--windows", "0"},
      {"evaluate", "m", "--tokens", "f", "--blocks", "64"},
      {"evaluate", "m", "--arms", "--bits", "1"},
      {"evaluate", "m", "--arms", "--calibration", "f"},
      {"evaluate", "m", "--activations", "--smoothing", "2"},
      {"evaluate", "m", "--tokens", "f", "--threshold", "a=1"},
      {"capabilities", "--tls-cert", "f"},
      {"capabilities", "--tls-ca", "f"},
      {"compress", "m", "o", "extra"},
  };
  for (const auto& arguments : kCases) {
    const Parsed parsed = Parse(arguments);
    EXPECT_EQ(parsed.exit_code, 2) << arguments.size() << arguments[0];
    EXPECT_NE(parsed.err, "");
  }
}

TEST(CommandLine, PrintsHelpAndVersionAndIsDone) {
  const Parsed version = Parse({"--version"});
  EXPECT_EQ(version.exit_code, 0);
  EXPECT_THAT(version.out, testing::MatchesRegex("linchpin [0-9]+\\.[0-9]+\\.[0-9]+\n"));
  const Parsed help = Parse({"compress", "--help"});
  EXPECT_EQ(help.exit_code, 0);
  EXPECT_THAT(help.out, HasSubstr("--group-size"));
}

}  // namespace
}  // namespace linchpin
