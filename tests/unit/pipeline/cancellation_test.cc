// A job that is told to stop at any read: it ends as cancelled, and nothing of it is seen.
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <functional>
#include <string>

#include "artifact/manifest.h"
#include "artifact/verify.h"
#include "base/status.h"
#include "gtest/gtest.h"
#include "pipeline/compress.h"
#include "pipeline/detect.h"
#include "pipeline/evaluate.h"
#include "pipeline/shard_job.h"
#include "storage/memory_storage.h"
#include "tests/support/tiny_checkpoint.h"

namespace linchpin {
namespace {

// Asks to stop at a read, and counts what is read from then on.
struct StopAtRead {
  void Read(uint64_t bytes) {
    const int number = reads++;
    if (number > at) late_bytes += bytes;
    if (number == at) stop.request_stop();
  }

  std::stop_source stop;
  const int at;
  std::atomic<int> reads = 0;
  std::atomic<uint64_t> late_bytes = 0;
};

class WatchedFile : public ReadableFile {
 public:
  WatchedFile(std::unique_ptr<ReadableFile> file, StopAtRead& watch)
      : file_(std::move(file)), watch_(watch) {}
  uint64_t size() const override { return file_->size(); }
  absl::Status ReadAt(uint64_t offset, absl::Span<std::byte> out) const override {
    watch_.Read(out.size());
    return file_->ReadAt(offset, out);
  }
  absl::Status CheckUnchanged() const override { return file_->CheckUnchanged(); }

 private:
  const std::unique_ptr<ReadableFile> file_;
  StopAtRead& watch_;
};

class WatchedStorage : public Storage {
 public:
  WatchedStorage(const Storage& storage, StopAtRead& watch) : storage_(storage), watch_(watch) {}
  absl::StatusOr<std::unique_ptr<ReadableFile>> Open(std::string_view path) const override {
    ASSIGN_OR_RETURN(auto file, storage_.Open(path));
    return std::make_unique<WatchedFile>(std::move(file), watch_);
  }
  absl::StatusOr<std::vector<FileEntry>> List(std::string_view directory) const override {
    return storage_.List(directory);
  }
  absl::StatusOr<bool> IsDirectory(std::string_view path) const override {
    return storage_.IsDirectory(path);
  }
  absl::StatusOr<std::unique_ptr<OutputDirectory>> CreateDirectory(std::string_view path,
                                                                   bool overwrite) const override {
    return storage_.CreateDirectory(path, overwrite);
  }
  absl::Status RemoveDirectory(std::string_view path) const override {
    return storage_.RemoveDirectory(path);
  }

 private:
  const Storage& storage_;
  StopAtRead& watch_;
};

constexpr int kThreads = 2;
constexpr int64_t kSlabBytes = 2048;
const TokenSource kTokens = {.ids = {{1, 5, 9, 3, 7}, {1, 2, 20, 4}}};

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

  // Stops it at its first read, at its second, and so on until it ends before that.
  void StopEverywhere(const Work& work) {
    std::vector<std::string> before = Names();
    int cancelled = 0;
    uint64_t most = 0;
    for (int at = 0;; ++at) {
      StopAtRead watch{.at = at};
      const WatchedStorage watched(storage_, watch);
      const absl::Status status = work(
          watched, {.stop = watch.stop.get_token(), .threads = kThreads, .slab_bytes = kSlabBytes});
      if (watch.reads <= at) {
        EXPECT_TRUE(status.ok()) << status;
        break;
      }
      most = std::max<uint64_t>(most, watch.late_bytes);
      if (status.ok()) {  // its last reads: it was as good as done
        before = Names();
        continue;
      }
      ++cancelled;
      ASSERT_EQ(ReasonOf(status), Reason::kCancelled) << at << ": " << status;
      ASSERT_EQ(Names(), before) << "at read " << at;
    }
    std::printf("cancelled at %d reads, at most %llu bytes after the stop\n", cancelled,
                static_cast<unsigned long long>(most));
    EXPECT_GT(cancelled, 10);
  }

  MemoryStorage storage_;
};

TEST_F(CancellationTest, OfASearchWithItsProof) {
  StopEverywhere([](const Storage& storage, const RunContext& context) {
    return Detect(storage, "/m", {.proof = ProofLevel::kJoint, .proof_tokens = kTokens}, context)
        .status();
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

TEST_F(CancellationTest, OfAnEvaluation) {
  StopEverywhere([](const Storage& storage, const RunContext& context) {
    return Evaluate(storage, "/m", {.tokens = kTokens}, context).status();
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
  job.detection_json = DetectionToJson(prepared->detection).dump();
  job.importance_sha256 = prepared->importance_sha256;
  for (const int index : {0, 1}) {
    StopEverywhere([&](const Storage& storage, const RunContext& context) {
      return CompressShard(storage, job, index, context).status();
    });
  }
  StopEverywhere([&](const Storage& storage, const RunContext& context) {
    return FinalizeCompression(storage, job, false, context).status();
  });
}

}  // namespace
}  // namespace linchpin
