// The whole path on the demonstration model, in memory.
#include "pipeline/compress.h"

#include <filesystem>
#include <map>
#include <stop_token>
#include <utility>

#include "artifact/digest.h"
#include "artifact/verify.h"
#include "format/json.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "pipeline/demo_model.h"
#include "pipeline/evaluate.h"
#include "storage/local_storage.h"
#include "storage/memory_storage.h"
#include "tests/support/every_target.h"
#include "tests/support/safetensors_file.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/tiny_checkpoint.h"

namespace linchpin {
namespace {

using ::testing::HasSubstr;

class CompressTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(WriteDemoModel(storage_, "/demo").ok()); }

  absl::StatusOr<CompressResult> Run(const QuantizeOptions& quantize,
                                     std::string_view destination = "/out",
                                     RunContext context = RunContext{.threads = 2}) {
    return Compress(storage_, "/demo", storage_, destination, {.quantize = quantize}, context);
  }

  MemoryStorage storage_;
};

TEST_F(CompressTest, WritesAnArtifactThatHoldsAgainstItsManifest) {
  const auto result = Run({});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_LT(result->bytes_out, result->bytes_in / 2);
  EXPECT_EQ(result->manifest, ToText(storage_.Get("/out/linchpin.json")));
  const auto report = VerifyArtifact(storage_, "/out", RunContext{});
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_THAT(report->mismatches, ::testing::IsEmpty());
}

// Importance comes from a forward pass: the sums that are ours must not depend on the vectors.
// LibTorch takes the machine's all the while: tests/e2e/test_determinism.py has what others change.
TEST_F(CompressTest, OurKernelsForFusedProductsWriteTheSameBytes) {
  std::map<std::string, MemoryStorage::Bytes> first;
  OnEveryTarget([&](int64_t target) {
    if (!FusesProducts(target)) return;
    const std::string out = "/" + std::string(hwy::TargetName(target));
    const auto result = Run({}, out);
    ASSERT_TRUE(result.ok()) << result.status();
    const std::vector<FileEntry> files = storage_.List(out).value();
    for (const FileEntry& file : files) {
      const MemoryStorage::Bytes bytes = storage_.Get(out + "/" + file.name);
      const auto [known, is_first] = first.emplace(file.name, bytes);
      EXPECT_TRUE(is_first || *known->second == *bytes) << file.name;
    }
  });
  EXPECT_FALSE(first.empty());
}

TEST_F(CompressTest, TellsTheDigestsOfAllThatItWrote) {
  const auto result = Run({});
  ASSERT_TRUE(result.ok()) << result.status();
  const auto entries = storage_.List("/out");
  ASSERT_TRUE(entries.ok());
  ASSERT_EQ(result->files.size(), entries->size());
  for (const FileEntry& entry : *entries) {
    EXPECT_EQ(DigestIn(result->files, entry.name, entry.size),
              Sha256Hex(ToText(storage_.Get("/out/" + entry.name))))
        << entry.name;
  }
}

TEST_F(CompressTest, TakesOverDigestsOfTheSourceThatAreKnown) {
  const std::string config = ToText(storage_.Get("/demo/config.json"));
  const CompressOptions options{.source_files = {{"config.json", config.size(), "told"}}};
  ASSERT_TRUE(Compress(storage_, "/demo", storage_, "/out", options, {}).ok());
  const Json files =
      *ParseJson("manifest", ToText(storage_.Get("/out/linchpin.json")), Reason::kConfigInvalid);
  for (const Json& file : files["source"]["files"]) {
    const bool told = file["name"] == "config.json";
    EXPECT_EQ(file["sha256"] == "told", told) << file["name"];
  }
}

TEST_F(CompressTest, KeepsTheSuperWeightBitForBit) {
  for (const Preserve preserve : {Preserve::kTensor, Preserve::kScale}) {
    for (const ScaleRule scale : {ScaleRule::kSigned, ScaleRule::kMinMax}) {
      const std::string out = "/out" + std::string(NameOf(preserve)) + std::string(NameOf(scale));
      const auto result = Run({.scale = scale, .preserve = preserve}, out);
      ASSERT_TRUE(result.ok()) << result.status();
      ASSERT_EQ(result->kept.size(), 1U);
      EXPECT_TRUE(result->kept[0].exact) << out;
      EXPECT_EQ(result->kept[0].stored_value, 2.5F) << out;
    }
  }
}

TEST_F(CompressTest, WithoutPreservingTheManifestSaysWhatIsStored) {
  const auto result = Run({.scale = ScaleRule::kMinMax, .preserve = Preserve::kNone});
  ASSERT_TRUE(result.ok()) << result.status();
  ASSERT_EQ(result->kept.size(), 1U);
  EXPECT_FALSE(result->kept[0].exact);
  EXPECT_NE(result->kept[0].stored_value, 2.5F);
}

TEST_F(CompressTest, TheSameInputGivesTheSameBytesOnAnyNumberOfThreads) {
  ASSERT_TRUE(Run({}, "/one", RunContext{.threads = 1}).ok());
  ASSERT_TRUE(Run({}, "/three", RunContext{.threads = 3}).ok());
  for (const char* name : {"model.safetensors", "config.json", "linchpin.json", "tokens.json"}) {
    EXPECT_EQ(*storage_.Get(std::string("/one/") + name),
              *storage_.Get(std::string("/three/") + name))
        << name;
  }
}

TEST_F(CompressTest, TheSourceIsNotTouched) {
  const std::string before = ToText(storage_.Get("/demo/model.safetensors"));
  ASSERT_TRUE(Run({}).ok());
  EXPECT_EQ(before, ToText(storage_.Get("/demo/model.safetensors")));
}

TEST_F(CompressTest, RefusesADestinationThatExists) {
  ASSERT_TRUE(Run({}).ok());
  EXPECT_EQ(ReasonOf(Run({}).status()), Reason::kOutputExists);
}

TEST_F(CompressTest, RefusesADestinationThatMeetsTheSource) {
  for (const char* meets : {"/demo", "/demo/", "/demo/out", "/demo/a/b", "/x/../demo", "/"}) {
    const auto result =
        Compress(storage_, "/demo", storage_, meets, {.overwrite = true}, RunContext{});
    EXPECT_EQ(ReasonOf(result.status()), Reason::kOptionInvalid) << meets;
    EXPECT_THAT(std::string(result.status().message()), HasSubstr("the source"));
  }
  EXPECT_NE(storage_.Get("/demo/tokens.json"), nullptr);
}

// `--overwrite` through a link would have replaced the source with the result.
TEST(CompressOnDiskTest, RefusesADestinationThatIsALinkToTheSource) {
  const TemporaryDirectory directory;
  const auto storage = LocalStorage::Create({.read_roots = {directory.path().string()},
                                             .write_roots = {directory.path().string()},
                                             .allow_symlinks = true});
  ASSERT_TRUE(storage.ok()) << storage.status();
  ASSERT_TRUE(WriteDemoModel(**storage, directory / "demo").ok());
  std::filesystem::create_directory_symlink(directory / "demo", directory / "link");
  for (const auto& [source, destination] :
       {std::pair("demo", "link"), std::pair("link", "demo"), std::pair("demo", "link/out")}) {
    const auto result = Compress(**storage, directory / source, **storage, directory / destination,
                                 {.overwrite = true}, RunContext{});
    EXPECT_EQ(ReasonOf(result.status()), Reason::kOptionInvalid) << result.status();
  }
}

TEST_F(CompressTest, AGroupThatDividesNoRowIsRefusedBeforeAnythingRuns) {
  // 96 divides neither 256 nor 512.
  const auto result = Run({.group_size = 96});
  EXPECT_EQ(ReasonOf(result.status()), Reason::kOptionInvalid);
  EXPECT_EQ(storage_.Get("/out/config.json"), nullptr);
}

// Rows of 64 are no blocks of 256: there would be bytes that nobody wrote.
TEST(CompressDenseTest, RowsThatBlocksDoNotDivideStayAsTheyAre) {
  MemoryStorage storage;
  PutTinyCheckpoint(storage, "/model");
  const CompressOptions options{.quantize = {.format = Format::kDense, .scheme = Scheme::kQ4_K}};
  EXPECT_EQ(ReasonOf(Compress(storage, "/model", storage, "/out", options, {}).status()),
            Reason::kFeatureUnsupported);
  PutTinyCheckpoint(storage, "/wide", {.intermediate = 256});
  const auto wide = Compress(storage, "/wide", storage, "/out", options, {});
  ASSERT_TRUE(wide.ok()) << wide.status();
  EXPECT_THAT(wide->manifest, testing::HasSubstr("row length not a multiple of a block"));
}

TEST_F(CompressTest, ACancelledJobLeavesNothing) {
  std::stop_source stop;
  stop.request_stop();
  const auto result = Run({}, "/out", RunContext{.stop = stop.get_token()});
  EXPECT_EQ(ReasonOf(result.status()), Reason::kCancelled);
  EXPECT_EQ(storage_.Get("/out/config.json"), nullptr);
  EXPECT_EQ(storage_.Get("/out/linchpin.json"), nullptr);
}

TEST_F(CompressTest, AnUnknownFamilyIsRefusedWithTheList) {
  std::string config = ToText(storage_.Get("/demo/config.json"));
  config.replace(config.find("\"llama\""), 7, "\"mamba\"");
  storage_.Put("/demo/config.json", ToBytes(config));
  const auto result = Run({});
  EXPECT_EQ(ReasonOf(result.status()), Reason::kFamilyUnsupported);
  EXPECT_THAT(std::string(result.status().message()), HasSubstr("mamba"));
  EXPECT_THAT(std::string(result.status().message()), HasSubstr("llama"));
}

class DetectionOffTest : public CompressTest {
 protected:
  static CompressOptions Off(QuantizeOptions quantize = {.scale = ScaleRule::kSigned}) {
    return {.detect = {.skip = true}, .quantize = std::move(quantize)};
  }
  absl::StatusOr<CompressResult> RunOff(const CompressOptions& options,
                                        std::string_view destination = "/out") {
    return Compress(storage_, "/demo", storage_, destination, options, RunContext{.threads = 2});
  }
  void PretendToBe(const std::string& family) {
    std::string config = ToText(storage_.Get("/demo/config.json"));
    config.replace(config.find("\"llama\""), 7, "\"" + family + "\"");
    storage_.Put("/demo/config.json", ToBytes(config));
  }
};

TEST_F(DetectionOffTest, TheManifestSaysThatNothingIsKnownOfSuperWeights) {
  const auto result = RunOff(Off());
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_FALSE(result->detection.has_value());
  EXPECT_THAT(result->kept, ::testing::IsEmpty());
  EXPECT_THAT(result->notes, ::testing::ElementsAre(HasSubstr("detection is off")));
  const Json manifest = Json::parse(result->manifest);
  EXPECT_TRUE(manifest["detection"].is_null());
  EXPECT_TRUE(manifest["calibration"].is_null());
  EXPECT_EQ(manifest["options"]["scale"], "signed");
  EXPECT_THAT(manifest["notes"][0].get<std::string>(), HasSubstr("none is kept"));
  const auto report = VerifyArtifact(storage_, "/out", RunContext{});
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_THAT(report->mismatches, ::testing::IsEmpty());
}

// But for the tensor of its super weight the model is the one that a run with detection makes.
TEST_F(DetectionOffTest, TheWeightsAreThoseOfARunThatKeepsNone) {
  ASSERT_TRUE(RunOff(Off()).ok());
  ASSERT_TRUE(Run({.scale = ScaleRule::kSigned, .preserve = Preserve::kNone}, "/on").ok());
  EXPECT_EQ(*storage_.Get("/out/model.safetensors"), *storage_.Get("/on/model.safetensors"));
}

TEST_F(DetectionOffTest, WhatNeedsAForwardPassIsRefused) {
  CompressOptions calibrated = Off();
  calibrated.calibration.ids = {{1, 2, 3}};
  CompressOptions proven = Off();
  proven.detect.proof = ProofLevel::kJoint;
  CompressOptions prompted = Off();
  prompted.detect.prompt.ids = {{1, 2}};
  for (const auto& [options, text] :
       {std::pair(Off({}), "scale: importance takes a forward pass"),
        std::pair(calibrated, "calibration"), std::pair(proven, "a proof"),
        std::pair(prompted, "a prompt")}) {
    const auto result = RunOff(options);
    EXPECT_EQ(ReasonOf(result.status()), Reason::kOptionInvalid);
    EXPECT_THAT(std::string(result.status().message()), HasSubstr(text));
    EXPECT_EQ(ReasonOf(PlanCompression(storage_, "/demo", options).status()),
              Reason::kOptionInvalid);
  }
  EXPECT_EQ(ReasonOf(Detect(storage_, "/demo", {.skip = true}, {}).status()),
            Reason::kOptionInvalid);
}

TEST_F(DetectionOffTest, AFamilyThatNobodyKnowsIsCompressedByTheNamesOfItsLayers) {
  ASSERT_TRUE(RunOff(Off(), "/llama").ok());
  PretendToBe("nobody");
  const auto result = RunOff(Off());
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_THAT(result->notes, ::testing::Contains(HasSubstr("family is not known")));
  EXPECT_EQ(*storage_.Get("/out/model.safetensors"), *storage_.Get("/llama/model.safetensors"));
  const auto plan = PlanCompression(storage_, "/demo", Off());
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->bytes_out(), result->bytes_out);
}

TEST_F(DetectionOffTest, WithoutTheSourcesDigestTheManifestHasNull) {
  CompressOptions options = Off();
  options.source_digest = false;
  const auto without = RunOff(options);
  ASSERT_TRUE(without.ok()) << without.status();
  const auto with = RunOff(Off(), "/with");
  ASSERT_TRUE(with.ok()) << with.status();
  Json manifest = Json::parse(with->manifest);
  for (Json& file : manifest["source"]["files"]) {
    EXPECT_EQ(file["sha256"].get<std::string>().size(), 64U);
    file["sha256"] = nullptr;
  }
  EXPECT_EQ(Json::parse(without->manifest), manifest);
}

TEST_F(CompressTest, ThePlanTellsTheSizesThatTheArtifactHas) {
  const auto plan = PlanCompression(storage_, "/demo", {.quantize = {.preserve = Preserve::kNone}});
  ASSERT_TRUE(plan.ok()) << plan.status();
  const auto result = Run({.preserve = Preserve::kNone});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(plan->bytes_in(), result->bytes_in);
  EXPECT_EQ(plan->bytes_out(), result->bytes_out);
}

class Listener : public RunObserver {
 public:
  void OnProgress(const Progress& progress) override { ++progress_[progress.stage]; }
  void OnStageDone(Stage stage, double seconds, uint64_t, uint64_t) override {
    EXPECT_GE(seconds, 0);
    ++done_[stage];
  }
  void OnTensor(TensorAction action) override { ++tensors_[action]; }

  std::map<Stage, int> progress_, done_;
  std::map<TensorAction, int> tensors_;
};

TEST_F(CompressTest, TellsAnObserverWhatItDoes) {
  Listener listener;
  ASSERT_TRUE(Run({}, "/out", RunContext{.observer = &listener, .threads = 2}).ok());
  for (const Stage stage : {Stage::kForward, Stage::kQuantize, Stage::kArtifact}) {
    EXPECT_EQ(listener.done_[stage], 1) << StageName(stage);
  }
  EXPECT_GT(listener.progress_[Stage::kForward], 0);
  // 5 layers of 7 linears; one of them is kept for its super weight.
  EXPECT_EQ(listener.tensors_[TensorAction::kQuantized], 34);
  EXPECT_EQ(listener.tensors_[TensorAction::kPreserved], 1);
  EXPECT_EQ(listener.tensors_[TensorAction::kCopied], 13);
}

}  // namespace
}  // namespace linchpin
