#include "artifact/running_digest.h"

#include <algorithm>
#include <numeric>
#include <random>
#include <thread>
#include <vector>

#include "base/status.h"
#include "gtest/gtest.h"
#include "storage/memory_storage.h"
#include "tests/support/safetensors_file.h"

namespace linchpin {
namespace {

constexpr uint64_t kSize = 1'000'003;

std::string Bytes() {
  std::mt19937 random(1);
  std::string bytes(kSize, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

class RunningDigestTest : public ::testing::Test {
 protected:
  absl::Status Write(uint64_t begin, uint64_t end) {
    return file_->WriteAt(begin, {reinterpret_cast<const std::byte*>(bytes_.data()) + begin,
                                  static_cast<size_t>(end - begin)});
  }

  MemoryStorage storage_;
  const std::unique_ptr<OutputDirectory> output_ = *storage_.CreateDirectory("out", false);
  const std::unique_ptr<WritableFile> file_ = *output_->CreateFile("f", kSize);
  const std::string bytes_ = Bytes();
};

TEST_F(RunningDigestTest, PiecesInAnyOrderGiveTheDigestOfTheFile) {
  std::vector<uint64_t> cuts = {0, 1, 2, 63, 64, 65, 70'000, 300'000, 300'001, 999'999, kSize};
  std::vector<size_t> order(cuts.size() - 1);
  std::iota(order.begin(), order.end(), size_t{0});
  std::mt19937 random(7);
  for (int round = 0; round < 20; ++round) {
    RunningDigest digest("f", kSize, *file_);
    for (const size_t i : order) {
      ASSERT_TRUE(Write(cuts[i], cuts[i + 1]).ok());
      ASSERT_TRUE(digest.Written(cuts[i], cuts[i + 1], {}).ok());
      ASSERT_TRUE(digest.Written(cuts[i], cuts[i], {}).ok()) << "nothing";
    }
    const absl::StatusOr<FileRecord> record = digest.Finish({});
    ASSERT_TRUE(record.ok());
    EXPECT_EQ(*record, (FileRecord{"f", kSize, Sha256Hex(bytes_)}));
    std::shuffle(order.begin(), order.end(), random);
  }
}

TEST_F(RunningDigestTest, ThreadsMayWriteSideBySide) {
  RunningDigest digest("f", kSize, *file_);
  constexpr uint64_t kPiece = 1009;
  std::vector<std::jthread> threads;
  for (uint64_t first = 0; first < 4; ++first) {
    threads.emplace_back([&, first] {
      for (uint64_t begin = first * kPiece; begin < kSize; begin += 4 * kPiece) {
        const uint64_t end = std::min(begin + kPiece, kSize);
        EXPECT_TRUE(Write(begin, end).ok());
        EXPECT_TRUE(digest.Written(begin, end, {}).ok());
      }
    });
  }
  threads.clear();
  EXPECT_EQ(digest.Finish({})->sha256, Sha256Hex(bytes_));
}

TEST_F(RunningDigestTest, FollowsWhatOthersWriteToTheEnd) {
  RunningDigest digest("f", kSize, *file_);
  std::jthread follower([&] { EXPECT_TRUE(digest.Follow({}).ok()); });
  // The second half first.
  for (const uint64_t first : {kSize / 2, uint64_t{0}}) {
    const uint64_t last = first == 0 ? kSize / 2 : kSize;
    for (uint64_t begin = first; begin < last; begin += 10'007) {
      const uint64_t size = std::min<uint64_t>(10'007, last - begin);
      const auto* from = reinterpret_cast<const std::byte*>(bytes_.data()) + begin;
      ASSERT_TRUE(digest.WriteAt(begin, {from, static_cast<size_t>(size)}).ok());
    }
  }
  follower.join();  // it ends although nobody says that no more comes
  EXPECT_EQ(digest.Finish({})->sha256, Sha256Hex(bytes_));
}

TEST_F(RunningDigestTest, FollowingEndsWhereNoMoreComes) {
  RunningDigest digest("f", kSize, *file_);
  std::vector<std::jthread> followers;
  for (int i = 0; i < 3; ++i) {
    followers.emplace_back([&] { EXPECT_TRUE(digest.Follow({}).ok()); });
  }
  ASSERT_TRUE(digest.WriteAt(0, {reinterpret_cast<const std::byte*>(bytes_.data()), 1000}).ok());
  digest.NoMore();
  followers.clear();
  ASSERT_TRUE(digest.Follow({}).ok()) << "nor does it begin";
  ASSERT_TRUE(Write(1000, kSize).ok());
  EXPECT_EQ(digest.Finish({})->sha256, Sha256Hex(bytes_));
}

TEST_F(RunningDigestTest, FollowingStopsWhenAsked) {
  std::stop_source stop;
  stop.request_stop();
  RunningDigest digest("f", kSize, *file_);
  ASSERT_TRUE(digest.WriteAt(0, {reinterpret_cast<const std::byte*>(bytes_.data()), 1000}).ok());
  EXPECT_EQ(ReasonOf(digest.Follow({.stop = stop.get_token()})), Reason::kCancelled);
}

TEST_F(RunningDigestTest, StopsWhenAsked) {
  std::stop_source stop;
  stop.request_stop();
  RunningDigest digest("f", kSize, *file_);
  EXPECT_EQ(ReasonOf(digest.Written(0, kSize, {.stop = stop.get_token()})), Reason::kCancelled);
}

}  // namespace
}  // namespace linchpin
