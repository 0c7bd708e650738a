#include "pipeline/job_key.h"

#include <cstring>

#include "gtest/gtest.h"
#include "tests/support/tiny_checkpoint.h"

namespace linchpin {
namespace {

std::string Fingerprint(const MemoryStorage& storage, const std::string& path) {
  const auto checkpoint = Checkpoint::Open(storage, path);
  EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
  const auto fingerprint = FingerprintOf(*checkpoint);
  EXPECT_TRUE(fingerprint.ok()) << fingerprint.status();
  return fingerprint.value_or("");
}

TEST(FingerprintOf, IsTheContentsWhereverItLies) {
  MemoryStorage storage;
  PutTinyCheckpoint(storage, "/a");
  PutTinyCheckpoint(storage, "/b/c");
  EXPECT_EQ(Fingerprint(storage, "/a"), Fingerprint(storage, "/b/c"));
  EXPECT_EQ(Fingerprint(storage, "/a").size(), 64U);
}

TEST(FingerprintOf, ChangesWithWeightsConfigNamesAndShards) {
  MemoryStorage storage;
  PutTinyCheckpoint(storage, "/a");
  const std::string before = Fingerprint(storage, "/a");
  PutTinyCheckpoint(storage, "/weights", {.edit = [](TensorFixture& tensor) {
                      for (char& byte : tensor.bytes) byte = static_cast<char>(byte ^ 1);
                    }});
  EXPECT_NE(Fingerprint(storage, "/weights"), before);
  PutTinyCheckpoint(storage, "/shards", {.shards = 2});
  EXPECT_NE(Fingerprint(storage, "/shards"), before);
  PutTinyCheckpoint(storage, "/config");
  storage.Put("/config/config.json", ToBytes(ToText(storage.Get("/config/config.json")) + " "));
  EXPECT_NE(Fingerprint(storage, "/config"), before);
  PutTinyCheckpoint(storage, "/more");
  storage.Put("/more/more.txt", ToBytes("text"));
  const std::string more = Fingerprint(storage, "/more");
  EXPECT_NE(more, before);
  storage.Put("/more/more.txt", ToBytes("TEXT"));
  EXPECT_NE(Fingerprint(storage, "/more"), more);
}

TEST(SampleDigest, SeesSizeFirstAndLastByteAndLittleElse) {
  const auto digest = [](const std::string& text) {
    return SampleDigest(text.size(),
                        [&text](uint64_t at, absl::Span<std::byte> out) {
                          std::memcpy(out.data(), text.data() + at, out.size());
                          return absl::OkStatus();
                        })
        .value_or("");
  };
  const std::string text(1 << 20, 'a');
  EXPECT_EQ(digest(text).size(), 64U);
  EXPECT_NE(digest(text), digest(text + "a"));
  for (const size_t at : {size_t{0}, text.size() - 1}) {
    std::string other = text;
    other[at] = 'b';
    EXPECT_NE(digest(other), digest(text)) << at;
  }
  EXPECT_NE(digest(""), digest("a"));
  EXPECT_NE(digest("b"), digest("a"));
}

TEST(JobKey, DiffersInEachOfItsParts) {
  const std::string key = JobKey("compress", "options", "source");
  EXPECT_EQ(key.size(), 64U);
  EXPECT_EQ(JobKey("compress", "options", "source"), key);
  EXPECT_NE(JobKey("detect", "options", "source"), key);
  EXPECT_NE(JobKey("compress", "others", "source"), key);
  EXPECT_NE(JobKey("compress", "options", "elsewhere"), key);
  EXPECT_NE(JobKey("compress", "optionss", "ource"), key);
}

}  // namespace
}  // namespace linchpin
