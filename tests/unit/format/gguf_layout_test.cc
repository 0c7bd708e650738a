#include "format/gguf_layout.h"

#include <random>
#include <string>
#include <vector>

#include "base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/gguf_file.h"

namespace linchpin {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

GgufTensor Tensor(std::string name, uint32_t type, std::vector<int64_t> shape) {
  return {std::move(name), FindGgufBlockType(type), std::move(shape)};
}

TEST(GgufLayoutTest, TheBytesAreThoseOfAFileMadeByHand) {
  const std::string seven = GgufValueBytes(uint32_t{7});
  const std::string half = GgufValueBytes(0.5F);
  const std::string text = GgufValueBytes(std::string_view("llama"));
  const std::vector<GgufKeyValue> pairs = {
      {"general.architecture", text}, {"n", seven}, {"x", half}};
  // The first takes 36 bytes, so that 28 are left out before the second.
  const auto layout =
      LayOutGguf("f", pairs, {Tensor("a", 0, {3, 3}), Tensor("b.weight", 8, {2, 32})});
  ASSERT_TRUE(layout.ok()) << layout.status();
  std::string expected = "GGUF" + GgufU32(3) + GgufU64(2) + GgufU64(3) +
                         GgufPair("general.architecture", "llama") + GgufPair("n", 7U) +
                         GgufPair("x", 0.5F) + GgufTensorEntry("a", {3, 3}, 0, 0) +
                         GgufTensorEntry("b.weight", {32, 2}, 8, 64);
  expected.resize((expected.size() + 31) / 32 * 32, '\0');
  EXPECT_EQ(layout->header, expected);
  EXPECT_EQ(layout->tensors[0].begin, expected.size());
  EXPECT_EQ(layout->tensors[0].end, expected.size() + 36);
  EXPECT_EQ(layout->tensors[1].begin, expected.size() + 64);
  EXPECT_EQ(layout->tensors[1].end, expected.size() + 64 + 68);
  EXPECT_EQ(layout->file_size, expected.size() + 64 + 96);
}

TEST(GgufLayoutTest, ListsAndFlagsAreReadBackAsTheyWere) {
  const std::vector<std::string> texts = {"", "a b", "\u2581"};
  const std::vector<int32_t> numbers = {-1, 0, 1 << 30};
  const std::vector<float> reals = {-0.5F, 3e38F};
  GgufPairs pairs;
  pairs.Add("flag", true);
  pairs.Add("texts", absl::MakeConstSpan(texts));
  pairs.Add("numbers", absl::MakeConstSpan(numbers));
  pairs.Add("reals", absl::MakeConstSpan(reals));
  const auto layout = LayOutGguf("f", pairs.views(), {});
  ASSERT_TRUE(layout.ok()) << layout.status();
  const auto header = ParseGgufHeader("f", layout->header, layout->file_size);
  ASSERT_TRUE(header.ok() && *header) << header.status();
  const auto& metadata = (*header)->metadata;
  EXPECT_TRUE(std::get<bool>(metadata.at("flag")));
  EXPECT_THAT(*std::get<GgufArray>(metadata.at("texts")).Strings(),
              ElementsAre("", "a b", "\u2581"));
  EXPECT_THAT(*std::get<GgufArray>(metadata.at("numbers")).Integers(), ElementsAre(-1, 0, 1 << 30));
  EXPECT_THAT(*std::get<GgufArray>(metadata.at("reals")).Numbers(), ElementsAre(-0.5, 3e38F));
}

TEST(GgufLayoutTest, TheReaderReadsWhatWasLaidOut) {
  std::mt19937 random(3);
  for (int round = 0; round < 200; ++round) {
    std::vector<std::string> texts;
    for (uint32_t i = 0; i < random() % 6; ++i) {
      texts.push_back("key." + std::to_string(i));
      texts.push_back(random() % 2 == 0 ? GgufValueBytes(static_cast<uint32_t>(random()))
                                        : GgufValueBytes(std::string_view(texts[0])));
    }
    const uint32_t alignment = 8U << random() % 5;
    texts.emplace_back("general.alignment");
    texts.push_back(GgufValueBytes(alignment));
    std::vector<GgufKeyValue> pairs;
    for (size_t i = 0; i < texts.size(); i += 2) pairs.push_back({texts[i], texts[i + 1]});
    std::vector<GgufTensor> tensors;
    for (uint32_t i = 0; i < random() % 20; ++i) {
      constexpr uint32_t kTypes[] = {0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 30};
      const uint32_t type = kTypes[random() % std::size(kTypes)];
      std::vector<int64_t> shape;
      for (uint32_t n = random() % 4; n-- > 0;) shape.push_back(random() % 5);
      shape.push_back(static_cast<int64_t>(random() % 3 + 1) * FindGgufBlockType(type)->elements);
      tensors.push_back(Tensor("blk." + std::to_string(i), type, shape));
    }
    const auto layout = LayOutGguf("f", pairs, tensors);
    ASSERT_TRUE(layout.ok()) << layout.status();
    std::string file = layout->header;
    file.resize(layout->file_size);
    const auto header = ParseGgufHeader("f", file, file.size());
    ASSERT_TRUE(header.ok() && header->has_value()) << header.status();
    ASSERT_EQ((*header)->tensors.size(), tensors.size());
    for (const GgufTensor& tensor : layout->tensors) {
      const auto found = std::find_if((*header)->tensors.begin(), (*header)->tensors.end(),
                                      [&](const auto& read) { return read.name == tensor.name; });
      ASSERT_NE(found, (*header)->tensors.end());
      EXPECT_EQ(found->type, tensor.type);
      EXPECT_EQ(found->shape, tensor.shape);
      EXPECT_EQ(found->begin, tensor.begin);
      EXPECT_EQ(found->end, tensor.end);
    }
    ASSERT_EQ((*header)->pairs.size(), pairs.size());
    for (size_t i = 0; i < pairs.size(); ++i) {
      EXPECT_EQ((*header)->pairs[i].key, pairs[i].key);
      EXPECT_EQ((*header)->pairs[i].value, pairs[i].value);
    }
  }
}

TEST(GgufLayoutTest, CarriesEveryTypeOfValueOver) {
  const std::string file =
      RawGguf({GgufRawPair("u8", 0, "\xff"), GgufRawPair("i64", 11, std::string(8, '\xff')),
               GgufPair("list", std::vector<std::string>{"a", "bc"}),
               GgufArrayPair("floats", 6, 2, "abcdefgh")},
              {}, "");
  const auto header = ParseGgufHeader("f", file, file.size());
  ASSERT_TRUE(header.ok() && header->has_value());
  const auto layout = LayOutGguf("f", (*header)->pairs, {});
  ASSERT_TRUE(layout.ok());
  EXPECT_EQ(layout->header, file);
  EXPECT_EQ(layout->file_size, file.size());
}

void ExpectRefused(const std::vector<GgufKeyValue>& pairs, const std::vector<GgufTensor>& tensors,
                   Reason reason, std::string_view word) {
  const auto layout = LayOutGguf("f", pairs, tensors);
  ASSERT_FALSE(layout.ok());
  EXPECT_EQ(ReasonOf(layout.status()), reason);
  EXPECT_THAT(std::string(layout.status().message()), HasSubstr(std::string(word)));
}

TEST(GgufLayoutTest, RefusesWhatNoReaderTakes) {
  const std::string name(64, 'n');
  ExpectRefused({}, {Tensor(name, 0, {1})}, Reason::kHeaderInvalid, name);
  EXPECT_TRUE(LayOutGguf("f", {}, {Tensor(name.substr(1), 0, {1})}).ok());
  ExpectRefused({}, {Tensor("a", 0, {1}), Tensor("a", 0, {2})}, Reason::kHeaderInvalid, "twice");
  ExpectRefused({}, {Tensor("a", 0, {1, 1, 1, 1, 1})}, Reason::kHeaderInvalid, "dimensions");
  ExpectRefused({}, {Tensor("a", 12, {2, 128})}, Reason::kTensorShapeInvalid, "Q4_K");
  const std::string one = GgufValueBytes(uint32_t{1});
  const std::string three = GgufValueBytes(uint32_t{3});
  ExpectRefused({{"k", one}, {"k", one}}, {}, Reason::kHeaderInvalid, "key k");
  ExpectRefused({{"general.alignment", three}}, {}, Reason::kHeaderInvalid, "power of two");
}

}  // namespace
}  // namespace linchpin
