// A compression that is killed and called again: the bytes of an undisturbed run.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>

#include "artifact/verify.h"
#include "base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "pipeline/compress.h"
#include "storage/local_storage.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/tiny_checkpoint.h"

namespace linchpin {
namespace {

namespace fs = std::filesystem;
using ::testing::IsEmpty;

constexpr char kKey[] = "0123456789abcdef";

// Kills its own process when so many tensors are written.
class Killer : public RunObserver {
 public:
  explicit Killer(int after) : left_(after) {}
  void OnTensor(TensorAction) override {
    if (--left_ == 0) kill(getpid(), SIGKILL);
  }

 private:
  std::atomic<int> left_;
};

std::string ContentOf(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

class ResumeTest : public ::testing::Test {
 protected:
  void SetUp() override {
    MemoryStorage made;
    PutTinyCheckpoint(made, "m", {.shards = 2});
    const auto files = made.List("m");
    for (const FileEntry& file : *files) {
      directory_.Write("m/" + file.name, ToText(made.Get("m/" + file.name)));
    }
    ASSERT_TRUE(Run("reference", "").ok());
    reference_ = FilesOf("reference");
    ASSERT_EQ(reference_.size(), 7U);
  }

  absl::StatusOr<CompressResult> Run(const std::string& out, const std::string& key,
                                     RunObserver* observer = nullptr, int threads = 2) {
    CompressOptions options{
        .detect = {.skip = true}, .quantize = {.scale = ScaleRule::kMinMax}, .key = key};
    return Compress(*storage_, directory_ / "m", *storage_, directory_ / out, options,
                    {.observer = observer, .threads = threads});
  }

  // In a process of its own, which dies of it.
  void RunAndKill(const std::string& out, int after, int threads = 2) {
    const pid_t child = fork();
    if (child == 0) {
      Killer killer(after);
      const auto result = Run(out, kKey, &killer, threads);
      _exit(result.ok() ? 0 : 1);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << "it was not killed: " << status;
    ASSERT_FALSE(fs::exists(directory_ / out));
  }

  std::map<std::string, std::string> FilesOf(const std::string& out) const {
    std::map<std::string, std::string> files;
    for (const auto& entry : fs::recursive_directory_iterator(directory_ / out)) {
      if (!entry.is_regular_file()) continue;
      files[fs::relative(entry.path(), directory_ / out)] = ContentOf(entry.path());
    }
    return files;
  }

  // What a killed run left; empty if it left nothing.
  fs::path Left(const std::string& out) const {
    for (const auto& entry : fs::directory_iterator(directory_.path())) {
      if (entry.path().filename().string().starts_with("." + out + ".linchpin-")) return entry;
    }
    return {};
  }

  void ExpectTheReference(const std::string& out, const std::string& what) {
    EXPECT_EQ(FilesOf(out), reference_) << what;
    EXPECT_THAT(Left(out).string(), IsEmpty()) << what;
  }

  TemporaryDirectory directory_;
  std::unique_ptr<LocalStorage> storage_ =
      *LocalStorage::Create({.write_roots = {directory_.path().string()}});
  std::map<std::string, std::string> reference_;
};

constexpr int kTensors = 20;

TEST_F(ResumeTest, KilledAfterAnyTensorItEndsWithTheSameBytes) {
  for (int after = 1; after <= kTensors; ++after) {
    const std::string out = "out" + std::to_string(after);
    RunAndKill(out, after, 1 + after % 3);
    ASSERT_THAT(Left(out).string(), ::testing::EndsWith(".linchpin-012345"));
    ASSERT_TRUE(Run(out, kKey).ok());
    ExpectTheReference(out, out);
  }
}

TEST_F(ResumeTest, KilledAgainAndAgainItEndsWithTheSameBytes) {
  for (int kills = 0; kills < 5; ++kills) RunAndKill("out", 3);
  ASSERT_TRUE(Run("out", kKey).ok());
  ExpectTheReference("out", "five kills");
}

// That it is gone on with shows in the file of a finished tensor: it is not written again.
TEST_F(ResumeTest, WhatIsFinishedIsNotMadeAgain) {
  RunAndKill("out", kTensors);
  const fs::path shard = Left("out") / "model-00001-of-00002.safetensors";
  const std::string before = ContentOf(shard);
  EXPECT_EQ(before, reference_["model-00001-of-00002.safetensors"]);
  int read = 0;
  class Counter : public RunObserver {
   public:
    explicit Counter(int& read) : read_(read) {}
    void OnProgress(const Progress& progress) override {
      read_ += progress.stage == Stage::kQuantize ? 1 : 0;
    }

   private:
    int& read_;
  } counter(read);
  ASSERT_TRUE(Run("out", kKey, &counter).ok());
  EXPECT_EQ(read, kTensors) << "once for each tensor that stood there, no slabs";
  ExpectTheReference("out", "all were finished");
}

TEST_F(ResumeTest, NotesAreNoticedWhenTheyAreTornAnywhere) {
  for (const double part : {0.0, 0.1, 0.33, 0.5, 0.77, 0.95, 0.999}) {
    RunAndKill("out", 15);
    const fs::path notes = Left("out") / ".linchpin-notes";
    ASSERT_GT(fs::file_size(notes), 1000U);
    fs::resize_file(notes,
                    static_cast<uintmax_t>(part * static_cast<double>(fs::file_size(notes))));
    ASSERT_TRUE(Run("out", kKey).ok());
    ExpectTheReference("out", "torn at " + std::to_string(part));
    fs::remove_all(directory_ / "out");
  }
}

TEST_F(ResumeTest, BytesThatAreNotWhatWasNotedAreMadeAgain) {
  RunAndKill("out", kTensors);
  for (const char* name :
       {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"}) {
    const fs::path shard = Left("out") / name;
    std::string bytes = ContentOf(shard);
    for (size_t i = 0; i < bytes.size(); i += 4096) bytes[i] = static_cast<char>(~bytes[i]);
    std::ofstream(shard, std::ios::binary) << bytes;
  }
  ASSERT_TRUE(Run("out", kKey).ok());
  ExpectTheReference("out", "flipped bits");
}

TEST_F(ResumeTest, FilesOfAnotherSizeOrBesideAreNotKept) {
  RunAndKill("out", kTensors);
  fs::resize_file(Left("out") / "model-00001-of-00002.safetensors", 100);
  std::ofstream(Left("out") / "stray") << "x";
  fs::create_directory(Left("out") / "folder");
  std::ofstream(Left("out") / "folder/stray") << "x";
  ASSERT_TRUE(Run("out", kKey).ok());
  ExpectTheReference("out", "cut and strewn");
}

TEST_F(ResumeTest, ASourceThatChangedIsCompressedAsItIsNow) {
  RunAndKill("out", kTensors);
  // The same size, and in place: only the file's times tell.
  const fs::path shard = directory_.path() / "m/model-00002-of-00002.safetensors";
  std::string bytes = ContentOf(shard);
  bytes[bytes.size() - 1] = static_cast<char>(bytes[bytes.size() - 1] ^ 1);
  const auto time = fs::last_write_time(shard);
  directory_.AwaitTick();
  std::ofstream(shard, std::ios::binary) << bytes;
  fs::last_write_time(shard, time);  // which may be set back
  ASSERT_TRUE(Run("out", kKey).ok());
  ASSERT_TRUE(Run("fresh", "").ok());
  EXPECT_EQ(FilesOf("out"), FilesOf("fresh"));
  EXPECT_NE(FilesOf("out"), reference_);
}

TEST_F(ResumeTest, OtherOptionsUnderTheSameKeyAreNotMixed) {
  RunAndKill("out", kTensors);
  const CompressOptions other{
      .detect = {.skip = true}, .quantize = {.scale = ScaleRule::kSigned}, .key = kKey};
  CompressOptions fresh = other;
  fresh.key.clear();
  const RunContext context{.threads = 2};
  ASSERT_TRUE(
      Compress(*storage_, directory_ / "m", *storage_, directory_ / "out", other, context).ok());
  ASSERT_TRUE(
      Compress(*storage_, directory_ / "m", *storage_, directory_ / "fresh", fresh, context).ok());
  EXPECT_EQ(FilesOf("out"), FilesOf("fresh"));
}

TEST_F(ResumeTest, AFailureLeavesNothing) {
  std::stop_source stop;
  stop.request_stop();
  CompressOptions options{
      .detect = {.skip = true}, .quantize = {.scale = ScaleRule::kMinMax}, .key = kKey};
  const auto result = Compress(*storage_, directory_ / "m", *storage_, directory_ / "out", options,
                               {.stop = stop.get_token()});
  EXPECT_EQ(ReasonOf(result.status()), Reason::kCancelled);
  EXPECT_THAT(Left("out").string(), IsEmpty());
}

TEST_F(ResumeTest, TwoAtOnceDoNotShareAPlace) {
  const auto first = storage_->ResumeDirectory(directory_ / "out", false, kKey);
  ASSERT_TRUE(first.ok());
  EXPECT_TRUE((*first)->KeepsNotes());
  ASSERT_TRUE(Run("out", kKey).ok());
  EXPECT_EQ(FilesOf("out"), reference_);
  EXPECT_EQ(ReasonOf((*first)->Commit()), Reason::kOutputExists);
}

}  // namespace
}  // namespace linchpin
