// A job that is told to stop at anything that it begins in its store: it ends as cancelled, begins
// no more than the threads that were about to, and nothing of it is seen.
#include <algorithm>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "artifact/manifest.h"
#include "artifact/verify.h"
#include "base/status.h"
#include "gtest/gtest.h"
#include "pipeline/compress.h"
#include "pipeline/demo_model.h"
#include "pipeline/detect.h"
#include "pipeline/evaluate.h"
#include "pipeline/memory_estimate.h"
#include "pipeline/shard_job.h"
#include "pipeline/shard_parts.h"
#include "storage/memory_storage.h"
#include "storage/stoppable_storage.h"
#include "tests/support/tiny_checkpoint.h"
#include "tests/support/watched_storage.h"

namespace linchpin {
namespace {

constexpr int kThreads = 2;
constexpr int64_t kSlabBytes = 2048;
// Of a job that is long; spread over all that it begins.
constexpr int kMostStops = 200;
// Those that compute, and the one that digests the source beside them.
constexpr int kInFlight = kThreads + 1;
const TokenSource kTokens = {.ids = {{1, 5, 9, 3, 7}, {1, 2, 20, 4}}};

// What a caller hears: a tensor, a layer or a file after the other.
class CountReports : public RunObserver {
 public:
  explicit CountReports(const StopAt& stop) : stop_(stop) {}
  void OnProgress(const Progress&) override {
    if (stop_.token().stop_requested()) ++late;
  }
  std::atomic<int> late = 0;

 private:
  const StopAt& stop_;
};

class CancellationTest : public testing::Test {
 protected:
  using Work = std::function<absl::Status(const Storage&, const RunContext&)>;

  void SetUp() override { PutTinyCheckpoint(storage_, "/m", {.shards = 2}); }

  std::vector<std::string> Names() const {
    std::vector<std::string> names;
    const auto files = storage_.List("/");
    for (const FileEntry& file : *files) names.push_back(file.name);
    return names;
  }

  struct Run {
    absl::Status status;
    int begun = 0;
  };

  // Runs it as a job of the service runs, until it begins its `at`-th thing.
  Run StopOnce(const Work& work, int at, int in_flight) {
    StopAt stop(at);
    CountReports reports(stop);
    const WatchedStorage watched(storage_, stop);
    const StoppableStorage job(watched, stop.token());
    const absl::Status status = work(job, {.stop = stop.token(),
                                           .observer = &reports,
                                           .threads = kThreads,
                                           .slab_bytes = kSlabBytes});
    EXPECT_LT(stop.late(), in_flight) << "begun after the stop at " << at;
    EXPECT_LE(reports.late, in_flight) << "at " << at;
    return {status, stop.begun()};
  }

  // Stops it at the first thing that it begins, at the second, and so on to the last.
  void StopEverywhere(const Work& work, int in_flight = kInFlight) {
    std::vector<std::string> before = Names();
    int cancelled = 0;
    for (int at = 0, step = 1;; at += step) {
      const Run run = StopOnce(work, at, in_flight);
      if (run.begun <= at) {
        EXPECT_TRUE(run.status.ok()) << run.status;
        break;
      }
      if (run.status.ok()) {  // the last: it was as good as done
        before = Names();
        continue;
      }
      if (++cancelled % kMostStops == 0) step *= 2;
      ASSERT_EQ(ReasonOf(run.status), Reason::kCancelled) << at << ": " << run.status;
      ASSERT_EQ(Names(), before) << "at " << at;
    }
    std::printf("cancelled at %d places\n", cancelled);
    EXPECT_GE(cancelled, 5);
  }

  MemoryStorage storage_;
};

TEST_F(CancellationTest, OfReadingHeaders) {
  StopEverywhere(
      [](const Storage& storage, const RunContext& context) {
        RETURN_IF_ERROR(SurveySource(storage, "/m", context.threads).status());
        return PlanCompression(storage, "/m", {}).status();
      },
      1);
}

TEST_F(CancellationTest, OfASearchWithItsProofAndAStudy) {
  StopEverywhere([](const Storage& storage, const RunContext& context) {
    return Detect(
               storage, "/m",
               {.prompts = 3, .proof = ProofLevel::kJoint, .study = true, .proof_tokens = kTokens},
               context)
        .status();
  });
}

TEST_F(CancellationTest, OfASearchByWeightsAlone) {
  StopEverywhere([](const Storage& storage, const RunContext& context) {
    return Detect(storage, "/m", {.weights_only = true}, context).status();
  });
}

TEST_F(CancellationTest, OfACompressionWithAndWithoutASearch) {
  for (const bool skip : {false, true}) {
    StopEverywhere([&](const Storage& storage, const RunContext& context) {
      CompressOptions options{.detect = {.skip = skip}, .overwrite = true};
      if (skip) options.quantize.scale = ScaleRule::kMse;
      return Compress(storage, "/m", storage, "/out", options, context).status();
    });
    ASSERT_TRUE(storage_.RemoveDirectory("/out").ok());
  }
}

TEST_F(CancellationTest, OfADenseOutputAndOfOneWithAnAdapter) {
  const QuantizeOptions dense{.format = Format::kDense, .scheme = Scheme::kBlocks};
  const QuantizeOptions adapter{.preserve = Preserve::kLora};
  for (const QuantizeOptions& quantize : {dense, adapter}) {
    StopEverywhere([&](const Storage& storage, const RunContext& context) {
      return Compress(storage, "/m", storage, "/out", {.quantize = quantize, .overwrite = true},
                      context)
          .status();
    });
    ASSERT_TRUE(storage_.RemoveDirectory("/out").ok());
  }
}

TEST_F(CancellationTest, OfAnEvaluation) {
  StopEverywhere([](const Storage& storage, const RunContext& context) {
    return Evaluate(storage, "/m", {.against = "/m", .tokens = kTokens}, context).status();
  });
}

TEST_F(CancellationTest, OfAnalyses) {
  AnalysisOptions all{.arms = true, .blocks = {256}, .activations = true, .awq = true};
  all.calibration = kTokens;
  StopEverywhere([&](const Storage& storage, const RunContext& context) {
    return Evaluate(storage, "/m", {.tokens = kTokens, .analyses = all}, context).status();
  });
}

TEST_F(CancellationTest, OfAVerification) {
  ASSERT_TRUE(Compress(storage_, "/m", storage_, "/out", {}, {}).ok());
  StopEverywhere([](const Storage& storage, const RunContext& context) {
    return VerifyArtifact(storage, "/out", context).status();
  });
}

TEST_F(CancellationTest, OfTheCallsOfACompressionInParts) {
  ShardJob job{.source = "/m", .destination = "/parts", .key = std::string(64, 'a')};
  StopEverywhere([&](const Storage& storage, const RunContext& context) {
    return PrepareCompression(storage, job, {}, context).status();
  });
  const auto prepared = PrepareCompression(storage_, job, {}, {});
  ASSERT_TRUE(prepared.ok()) << prepared.status();
  job.detection_json = DetectionToJson(*prepared->detection).dump();
  job.importance_sha256 = prepared->importance_sha256;
  for (const int index : {0, 1}) {
    StopEverywhere([&](const Storage& storage, const RunContext& context) {
      return CompressShard(storage, job, index, context).status();
    });
  }
  StopEverywhere(
      [&](const Storage& storage, const RunContext& context) {
        return FinalizeCompression(storage, job, false, context).status();
      },
      kSideBySide);
}

TEST_F(CancellationTest, OfWritingTheDemonstrationModel) {
  const Work work = [this](const Storage& storage, const RunContext&) {
    RETURN_IF_ERROR(WriteDemoModel(storage, "/demo").status());
    return storage_.RemoveDirectory("/demo");
  };
  StopEverywhere(work, 1);
}

}  // namespace
}  // namespace linchpin
