// GGUF files made to harm us, by hand and by chance: each is refused with a
// documented reason by a message that names the file, or reads as what it says.
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "base/status.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/tokenizer.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "storage/memory_storage.h"
#include "tests/support/gguf_file.h"
#include "tests/support/safetensors_file.h"

namespace linchpin {
namespace {

using ::testing::HasSubstr;

constexpr uint32_t kQ8_0 = 8;

std::string GoodFile() {
  std::vector<std::string> pairs = TinyGgufPairs();
  pairs.push_back(GgufPair("tokenizer.ggml.model", "llama"));
  pairs.push_back(GgufPair("tokenizer.ggml.tokens", std::vector<std::string>{"a", "b", "ab"}));
  pairs.push_back(
      GgufArrayPair("tokenizer.ggml.scores", 6, 3, GgufF32(-1) + GgufF32(-2) + GgufF32(-3)));
  pairs.push_back(GgufPair("llama.rope.freq_base", 1e6F));
  std::vector<GgufFixture> tensors = TinyGgufTensors();
  tensors.push_back(MakeGgufTensor("rope_freqs.weight", {2}, {1, 32}));
  tensors.push_back({"output.weight", {5, 8}, 0, std::string(160, 'o')});
  tensors.push_back({"blk.0.attn_output.bias", {8}, 0, std::string(32, 'b')});
  std::erase_if(tensors, [](const auto& tensor) { return tensor.name == "blk.0.ffn_down.weight"; });
  tensors.push_back({"blk.0.ffn_down.weight", {8, 32}, kQ8_0, std::string(8 * 34, 'q')});
  return GgufFile(pairs, tensors);
}

// Opens a file and reads all that it holds; the first failure.
absl::Status ReadAll(const std::string& content) {
  MemoryStorage storage;
  storage.Put("evil.gguf", ToBytes(content));
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(storage, "evil.gguf"));
  for (const StoredTensor& tensor : checkpoint.tensors()) {
    const int64_t rows = tensor.info.shape.size() < 2 ? 1 : tensor.info.shape[0];
    RETURN_IF_ERROR(checkpoint.ReadRows(tensor, 0, rows).status());
  }
  ASSIGN_OR_RETURN(const std::string tokenizer, checkpoint.TokenizerText());
  return Tokenizer::Parse("evil.gguf", tokenizer).status();
}

void ExpectDocumented(const absl::Status& status) {
  if (status.ok()) return;
  EXPECT_NE(ReasonOf(status), Reason::kInternal) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("evil.gguf"));
}

TEST(HostileGguf, TheGoodFileIsGood) { EXPECT_TRUE(ReadAll(GoodFile()).ok()); }

TEST(HostileGguf, EveryTruncationIsRefused) {
  const std::string good = GoodFile();
  for (size_t size = 0; size < good.size(); size += size < 2000 ? 1 : 37) {
    const absl::Status status = ReadAll(good.substr(0, size));
    EXPECT_FALSE(status.ok()) << size;
    ExpectDocumented(status);
  }
}

// Thousands of files with a few bytes, or runs of bytes, changed.
TEST(HostileGguf, ChangedBytesNeverHarm) {
  const std::string good = GoodFile();
  const size_t header = good.find("output.weight") + 200;
  std::mt19937_64 random(17);
  const uint64_t numbers[] = {0, 1, 255, UINT64_MAX, uint64_t{1} << 63, uint64_t{1} << 31, 32, 9};
  int refused = 0;
  for (int round = 0; round < 20'000; ++round) {
    std::string bad = good;
    for (uint64_t changes = random() % 4 + 1; changes > 0; --changes) {
      const size_t at = random() % header;
      switch (random() % 4) {
        case 0:
          bad[at] = static_cast<char>(bad[at] ^ 1 << random() % 8);
          break;
        case 1:
          bad.replace(at, 8, GgufU64(numbers[random() % std::size(numbers)]));
          break;
        case 2:
          bad.erase(at, random() % 24 + 1);
          break;
        default:
          bad.insert(at, good.substr(random() % header, random() % 64));
      }
    }
    const absl::Status status = ReadAll(bad);
    ExpectDocumented(status);
    refused += status.ok() ? 0 : 1;
  }
  EXPECT_GT(refused, 10'000);
  EXPECT_LT(refused, 20'000);
}

// A tensor of nothing for each of 2^40 experts would be 2^40 names.
TEST(HostileGguf, ExpertsOfNothingAreCounted) {
  const std::vector<std::string> pairs = {
      GgufPair("general.architecture", "qwen3moe"), GgufPair("qwen3moe.block_count", 16'000U),
      GgufRawPair("qwen3moe.expert_count", 10, GgufU64(uint64_t{1} << 40))};
  const std::string entry =
      GgufTensorEntry("blk.0.ffn_up_exps.weight", {0, 8, uint64_t{1} << 40}, 0, 0);
  EXPECT_THAT(std::string(ReadAll(RawGguf(pairs, {entry}, "")).message()),
              HasSubstr("qwen3moe.expert_count"));
  std::vector<std::string> entries;
  for (int layer = 0; layer < 1000; ++layer) {
    entries.push_back(GgufTensorEntry("blk." + std::to_string(layer) + ".ffn_up_exps.weight",
                                      {0, 8, 4096}, 0, 0));
  }
  const absl::Status status =
      ReadAll(RawGguf({pairs[0], pairs[1], GgufPair("qwen3moe.expert_count", 4096U)}, entries, ""));
  EXPECT_EQ(ReasonOf(status), Reason::kHeaderInvalid);
  EXPECT_THAT(std::string(status.message()), HasSubstr("more than 500000 tensors"));
}

TEST(HostileGguf, NamesAndTextsFromTheFileStayOneLine) {
  std::vector<std::string> pairs = TinyGgufPairs();
  pairs[0] = GgufPair("general.architecture", "evil\nINFO: all is well\xff");
  const absl::Status status = ReadAll(GgufFile(pairs, TinyGgufTensors()));
  EXPECT_EQ(ReasonOf(status), Reason::kFamilyUnsupported);
  EXPECT_EQ(std::string(status.message()).find('\n'), std::string::npos);
  const absl::Status name =
      ReadAll(RawGguf(TinyGgufPairs(), {GgufTensorEntry("blk.0.\xff\xfe.weight", {8}, 0, 0)},
                      std::string(64, 'x')));
  EXPECT_EQ(ReasonOf(name), Reason::kFeatureUnsupported);
  EXPECT_THAT(std::string(name.message()), HasSubstr("blk.0.??.weight"));
}

}  // namespace
}  // namespace linchpin
