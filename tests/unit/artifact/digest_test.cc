#include "artifact/digest.h"

#include <cstring>
#include <string>

#include "base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/tiny_checkpoint.h"

namespace linchpin {
namespace {

using ::testing::ElementsAre;
using ::testing::Field;

// Reads from a text.
ReadRange TextRange(const std::string& text) {
  return [&text](uint64_t offset, absl::Span<std::byte> out) -> absl::Status {
    if (offset + out.size() > text.size()) return Error(Reason::kSourceChanged, "text", "short");
    std::memcpy(out.data(), text.data() + offset, out.size());
    return absl::OkStatus();
  };
}

// The examples of FIPS 180-4.
TEST(Sha256Test, KnownDigests) {
  EXPECT_EQ(Sha256Hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(Sha256Hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(Sha256Hex(std::string(1'000'000, 'a')),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256Test, PiecesAreOneText) {
  Sha256 digest;
  for (const char& c : std::string("abc")) {
    digest.Update({reinterpret_cast<const std::byte*>(&c), 1});
  }
  digest.Update({});
  Sha256 moved = std::move(digest);
  EXPECT_EQ(moved.Hex(), Sha256Hex("abc"));
}

TEST(UpdateFromTest, ReadsItsRangeInChunks) {
  std::string text((3U << 20) + 17, 'x');
  for (size_t i = 0; i < text.size(); i += 7) text[i] = static_cast<char>(i % 251);
  Sha256 digest;
  ASSERT_TRUE(UpdateFrom(TextRange(text), 5, text.size() - 5, {}, digest).ok());
  EXPECT_EQ(digest.Hex(), Sha256Hex(std::string_view(text).substr(5)));
}

TEST(UpdateFromTest, PassesErrorsOnAndStops) {
  const std::string text = "short";
  Sha256 digest;
  EXPECT_EQ(ReasonOf(UpdateFrom(TextRange(text), 0, 6, {}, digest)), Reason::kSourceChanged);
  std::stop_source stop;
  stop.request_stop();
  EXPECT_EQ(ReasonOf(UpdateFrom(TextRange(text), 0, 5, {.stop = stop.get_token()}, digest)),
            Reason::kCancelled);
}

TEST(DigestFilesTest, RecordsAreSortedByName) {
  const std::string first = "1";
  const std::string second = "22";
  RunContext context;
  context.threads = 3;
  ProgressMeter meter(Stage::kArtifact, 3, context);
  const auto records =
      DigestFiles({{"b", 2, TextRange(second)}, {"a", 1, TextRange(first)}}, context, meter);
  ASSERT_TRUE(records.ok());
  EXPECT_THAT(*records,
              ElementsAre(FileRecord{"a", 1, Sha256Hex("1")}, FileRecord{"b", 2, Sha256Hex("22")}));
}

TEST(DigestFilesTest, WhatIsKnownIsNotRead) {
  const ReadRange never = [](uint64_t, absl::Span<std::byte>) {
    return Error(Reason::kInternal, "file", "it was read");
  };
  ProgressMeter meter(Stage::kArtifact, 0, {});
  const auto records = DigestFiles({{"a", 1, never, "known"}}, {}, meter);
  ASSERT_TRUE(records.ok()) << records.status();
  EXPECT_THAT(*records, ElementsAre(FileRecord{"a", 1, "known"}));
}

TEST(DigestInTest, GoesByNameAndSize) {
  const std::vector<FileRecord> records{{"a", 1, "x"}, {"b", 2, "y"}};
  EXPECT_EQ(DigestIn(records, "b", 2), "y");
  EXPECT_EQ(DigestIn(records, "b", 3), "");
  EXPECT_EQ(DigestIn(records, "c", 2), "");
}

TEST(DigestCheckpointTest, TakesOverWhatIsKnown) {
  MemoryStorage storage;
  PutTinyCheckpoint(storage, "m", {.shards = 2});
  const absl::StatusOr<Checkpoint> checkpoint = Checkpoint::Open(storage, "m");
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  auto expected = DigestCheckpoint(*checkpoint, {});
  ASSERT_TRUE(expected.ok()) << expected.status();
  (*expected)[1].sha256 = "told";
  const auto records = DigestCheckpoint(*checkpoint, {}, {(*expected)[1]});
  ASSERT_TRUE(records.ok()) << records.status();
  EXPECT_EQ(*records, *expected);
}

TEST(DigestCheckpointTest, TakesEveryFileOfTheSource) {
  MemoryStorage storage;
  PutTinyCheckpoint(storage, "m", {.shards = 2});
  const absl::StatusOr<Checkpoint> checkpoint = Checkpoint::Open(storage, "m");
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const auto records = DigestCheckpoint(*checkpoint, {});
  ASSERT_TRUE(records.ok()) << records.status();
  EXPECT_THAT(*records, ElementsAre(Field(&FileRecord::name, "LICENSE"),
                                    Field(&FileRecord::name, "config.json"),
                                    Field(&FileRecord::name, "model-00001-of-00002.safetensors"),
                                    Field(&FileRecord::name, "model-00002-of-00002.safetensors"),
                                    Field(&FileRecord::name, "model.safetensors.index.json"),
                                    Field(&FileRecord::name, "tokenizer.json")));
  for (const FileRecord& record : *records) {
    const std::string text = ToText(storage.Get("m/" + record.name));
    EXPECT_EQ(record.size, text.size());
    EXPECT_EQ(record.sha256, Sha256Hex(text)) << record.name;
  }
}

}  // namespace
}  // namespace linchpin
