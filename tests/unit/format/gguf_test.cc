#include "format/gguf.h"

#include <string>
#include <vector>

#include "base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/gguf_file.h"
#include "tests/support/shared.h"

namespace linchpin {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// The result views `file`.
absl::StatusOr<GgufHeader> Parse(std::string_view file) {
  ASSIGN_OR_RETURN(auto header, ParseGgufHeader("f", file, file.size()));
  EXPECT_TRUE(header.has_value()) << "asks for more than there is";
  return header.value_or(GgufHeader{});
}

void ExpectRefused(std::string_view file, Reason reason, const std::vector<std::string>& words) {
  const auto header = Parse(file);
  ASSERT_FALSE(header.ok());
  EXPECT_EQ(ReasonOf(header.status()), reason) << header.status();
  EXPECT_THAT(std::string(header.status().message()), HasSubstr("f"));
  for (const std::string& word : words) {
    EXPECT_THAT(std::string(header.status().message()), HasSubstr(word));
  }
}

// Two vectors of 8 elements of F32.
std::vector<GgufFixture> TwoTensors() {
  return {MakeGgufTensor("a", {8}, std::vector<float>(8, 1)),
          MakeGgufTensor("b", {2, 4}, std::vector<float>(8, 2))};
}

TEST(Gguf, ReadsAFileByHand) {
  const std::string file =
      GgufFile({GgufPair("general.architecture", "llama"), GgufPair("n", 7U), GgufPair("x", 0.5F),
                GgufPair("yes", true), GgufPair("no", false)},
               TwoTensors());
  const auto header = Parse(file);
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(std::get<std::string_view>(header->metadata.at("general.architecture")), "llama");
  EXPECT_EQ(std::get<uint64_t>(header->metadata.at("n")), 7u);
  EXPECT_EQ(std::get<float>(header->metadata.at("x")), 0.5F);
  EXPECT_TRUE(std::get<bool>(header->metadata.at("yes")));
  EXPECT_FALSE(std::get<bool>(header->metadata.at("no")));
  ASSERT_EQ(header->tensors.size(), 2u);
  EXPECT_EQ(header->tensors[1].name, "b");
  EXPECT_THAT(header->tensors[1].shape, ElementsAre(2, 4));
  EXPECT_EQ(header->tensors[1].type->name, "F32");
  EXPECT_EQ(header->tensors[1].end, file.size());
  EXPECT_EQ(header->tensors[1].begin, file.size() - 32);
  EXPECT_EQ(header->tensors[0].end, header->tensors[1].begin);
}

TEST(Gguf, ReadsEveryNumberType) {
  const std::string file =
      RawGguf({GgufRawPair("u8", 0, "\xff"), GgufRawPair("i8", 1, "\xff"),
               GgufRawPair("u16", 2, "\xfe\xff"), GgufRawPair("i16", 3, "\xfe\xff"),
               GgufRawPair("u32", 4, "\xff\xff\xff\xff"), GgufRawPair("i32", 5, "\xff\xff\xff\xff"),
               GgufRawPair("u64", 10, std::string(8, '\xff')),
               GgufRawPair("i64", 11, std::string(8, '\xff')),
               GgufRawPair("f64", 12, std::string(6, '\0') + "\xf8\x3f")},
              {}, "");
  const auto header = Parse(file);
  ASSERT_TRUE(header.ok()) << header.status();
  const auto& metadata = header->metadata;
  EXPECT_EQ(std::get<uint64_t>(metadata.at("u8")), 255u);
  EXPECT_EQ(std::get<int64_t>(metadata.at("i8")), -1);
  EXPECT_EQ(std::get<uint64_t>(metadata.at("u16")), 65534u);
  EXPECT_EQ(std::get<int64_t>(metadata.at("i16")), -2);
  EXPECT_EQ(std::get<uint64_t>(metadata.at("u32")), UINT32_MAX);
  EXPECT_EQ(std::get<int64_t>(metadata.at("i32")), -1);
  EXPECT_EQ(std::get<uint64_t>(metadata.at("u64")), UINT64_MAX);
  EXPECT_EQ(std::get<int64_t>(metadata.at("i64")), -1);
  EXPECT_EQ(std::get<double>(metadata.at("f64")), 1.5);
}

TEST(Gguf, ReadsArrays) {
  const std::string inner = GgufU32(0) + GgufU64(2) + "ab";
  const std::string file =
      RawGguf({GgufPair("words", std::vector<std::string>{"a", "", "ccc"}),
               GgufArrayPair("ints", 5, 2, GgufU32(3) + GgufU32(UINT32_MAX)),
               GgufArrayPair("floats", 6, 2, GgufF32(0.25F) + GgufF32(-1)),
               GgufArrayPair("flags", 7, 3, std::string("\1\0\1", 3)),
               GgufArrayPair("nested", 9, 2, inner + inner), GgufArrayPair("none", 8, 0, "")},
              {}, "");
  const auto header = Parse(file);
  ASSERT_TRUE(header.ok()) << header.status();
  const auto array = [&](const char* key) { return std::get<GgufArray>(header->metadata.at(key)); };
  EXPECT_THAT(*array("words").Strings(), ElementsAre("a", "", "ccc"));
  EXPECT_THAT(*array("ints").Integers(), ElementsAre(3, -1));
  EXPECT_THAT(*array("floats").Numbers(), ElementsAre(0.25, -1));
  EXPECT_THAT(*array("flags").Flags(), ElementsAre(true, false, true));
  EXPECT_EQ(array("nested").count, 2u);
  EXPECT_EQ(array("none").Strings()->size(), 0u);
  EXPECT_FALSE(array("ints").Strings());
  EXPECT_FALSE(array("ints").Numbers());
  EXPECT_FALSE(array("floats").Integers());
  EXPECT_FALSE(array("words").Flags());
  EXPECT_FALSE(array("nested").Integers());
  EXPECT_FALSE(GgufArray({GgufValueType::kU64, 1, "\xff\xff\xff\xff\xff\xff\xff\xff"}).Integers());
}

// Every prefix but the whole header asks for more, and none is an error.
TEST(Gguf, AsksForMoreUntilTheHeaderIsWhole) {
  const std::string file = GgufFile(
      {GgufPair("k", "v"), GgufPair("words", std::vector<std::string>{"a", "bc"})}, TwoTensors());
  size_t enough = 0;
  for (size_t size = 0; size <= file.size(); ++size) {
    const auto header = ParseGgufHeader("f", std::string_view(file).substr(0, size), file.size());
    ASSERT_TRUE(header.ok()) << size << ": " << header.status();
    if (enough == 0 && header->has_value()) enough = size;
    EXPECT_EQ(header->has_value(), enough != 0) << size;
  }
  EXPECT_GT(enough, 100u);
  EXPECT_LE(enough, file.size() - 64);  // data of two tensors
}

// Every truncated file is refused, whatever it lost.
TEST(Gguf, RefusesEveryTruncation) {
  const std::string file = GgufFile({GgufPair("k", "v")}, TwoTensors());
  for (size_t size = 0; size < file.size(); ++size) {
    const auto header = Parse(std::string_view(file).substr(0, size));
    ASSERT_FALSE(header.ok()) << size;
    EXPECT_THAT(std::string(header.status().message()), HasSubstr("f: ")) << size;
  }
  EXPECT_TRUE(Parse(file).ok());
}

TEST(Gguf, AlignmentIsRespected) {
  const std::vector<std::string> pairs = {GgufPair("general.alignment", 64U)};
  const std::string file = GgufFile(pairs, TwoTensors(), 64);
  const auto header = Parse(file);
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(header->tensors[0].begin % 64, 0u);
  EXPECT_EQ(header->tensors[1].begin, header->tensors[0].begin + 64);
  // The same offsets by 32 are no multiples of 64.
  ExpectRefused(RawGguf(pairs, {GgufTensorEntry("a", {8}, 0, 0), GgufTensorEntry("b", {8}, 0, 32)},
                        std::string(128, 'x')),
                Reason::kTensorRangeInvalid, {"tensor b", "offset 32", "64"});
}

TEST(Gguf, RefusesAnImpossibleAlignment) {
  for (const uint32_t alignment : {0U, 3U, 48U, UINT32_MAX}) {
    ExpectRefused(RawGguf({GgufPair("general.alignment", alignment)}, {}, ""),
                  Reason::kHeaderInvalid, {"general.alignment", "power of two"});
  }
  ExpectRefused(RawGguf({GgufPair("general.alignment", "32")}, {}, ""), Reason::kHeaderInvalid,
                {"general.alignment"});
  // A power of two beyond the file: no data can be there.
  ExpectRefused(RawGguf({GgufPair("general.alignment", 1U << 31)},
                        {GgufTensorEntry("a", {8}, 0, 0)}, std::string(64, 'x')),
                Reason::kTensorRangeInvalid, {"tensor a"});
}

TEST(Gguf, RefusesOtherVersionsByName) {
  EXPECT_TRUE(Parse(RawGguf({}, {}, "", 2)).ok());
  ExpectRefused(RawGguf({}, {}, "", 1), Reason::kFormatRefused, {"version 1", "2 and 3"});
  ExpectRefused(RawGguf({}, {}, "", 4), Reason::kFormatRefused, {"version 4"});
  ExpectRefused(RawGguf({}, {}, "", 0), Reason::kFormatRefused, {"version 0"});
  ExpectRefused(RawGguf({}, {}, "", 3U << 24), Reason::kFormatRefused, {"big-endian"});
  ExpectRefused("PK\x03\x04 and what follows it", Reason::kFormatRefused, {"not a GGUF file"});
}

TEST(Gguf, RefusesCountsThatCannotBe) {
  const std::string begin = "GGUF" + GgufU32(3);
  for (const uint64_t count : {uint64_t{1} << 60, UINT64_MAX, uint64_t{100}}) {
    ExpectRefused(begin + GgufU64(count) + GgufU64(0) + std::string(64, '\0'),
                  Reason::kHeaderInvalid, {std::to_string(count) + " tensors"});
    ExpectRefused(begin + GgufU64(0) + GgufU64(count) + std::string(64, '\0'),
                  Reason::kHeaderInvalid, {std::to_string(count) + " key-value pairs"});
  }
  // Refused on sight: no prefix is long enough to make this good.
  EXPECT_FALSE(
      ParseGgufHeader("f", begin + GgufU64(0) + GgufU64(uint64_t{1} << 60), uint64_t{1} << 62)
          .ok());
}

TEST(Gguf, RefusesTextsThatCannotBe) {
  const std::string begin = "GGUF" + GgufU32(3) + GgufU64(0) + GgufU64(1);
  for (const uint64_t length : {uint64_t{1} << 40, UINT64_MAX, uint64_t{kMaxGgufHeaderBytes}}) {
    const std::string file = begin + GgufU64(length) + std::string(64, 'k');
    const auto header = ParseGgufHeader("f", file, uint64_t{1} << 50);
    ASSERT_FALSE(header.ok()) << length;
    EXPECT_EQ(ReasonOf(header.status()), Reason::kHeaderInvalid);
    EXPECT_THAT(std::string(header.status().message()), HasSubstr("longer than 100000000 bytes"));
  }
  ExpectRefused(RawGguf({GgufPair("", 1U)}, {}, ""), Reason::kHeaderInvalid, {"a key is empty"});
  ExpectRefused(RawGguf({GgufPair("a\nb", 1U)}, {}, ""), Reason::kHeaderInvalid, {"control"});
}

TEST(Gguf, RefusesBadPairs) {
  ExpectRefused(RawGguf({GgufPair("k", 1U), GgufPair("k", 1U)}, {}, ""), Reason::kHeaderInvalid,
                {"key k", "stands twice"});
  ExpectRefused(RawGguf({GgufRawPair("k", 13, "aaaa")}, {}, ""), Reason::kHeaderInvalid,
                {"key k", "value type 13"});
  ExpectRefused(RawGguf({GgufRawPair("k", 7, "\2")}, {}, ""), Reason::kHeaderInvalid,
                {"key k", "neither true nor false"});
  ExpectRefused(RawGguf({GgufArrayPair("k", 8, uint64_t{1} << 60, "")}, {}, ""),
                Reason::kHeaderInvalid, {"key k", "values"});
  ExpectRefused(RawGguf({GgufArrayPair("k", 10, UINT64_MAX / 8 + 2, "")}, {}, ""),
                Reason::kHeaderInvalid, {"key k", "values"});
  std::string nested;
  for (int i = 0; i < 100'000; ++i) nested += GgufU32(9) + GgufU64(1);
  nested += GgufU32(0) + GgufU64(0);
  ExpectRefused(RawGguf({GgufRawPair("k", 9, nested)}, {}, ""), Reason::kHeaderInvalid,
                {"key k", "nest"});
}

TEST(Gguf, RefusesBadTensors) {
  const std::string data(256, 'd');
  const auto refused = [&](const std::vector<std::string>& entries, Reason reason,
                           const std::vector<std::string>& words) {
    ExpectRefused(RawGguf({}, entries, data), reason, words);
  };
  const auto entry = GgufTensorEntry;
  refused({entry("w", {8}, 0, 0), entry("w", {8}, 0, 32)}, Reason::kHeaderInvalid,
          {"tensor w", "stands twice"});
  refused({entry("", {8}, 0, 0)}, Reason::kHeaderInvalid, {"tensor name"});
  refused({entry("w\n", {8}, 0, 0)}, Reason::kHeaderInvalid, {"tensor name"});
  refused({entry("w", {1, 1, 1, 1, 1}, 0, 0)}, Reason::kHeaderInvalid,
          {"tensor w", "5 dimensions"});
  refused({entry("w", {uint64_t{1} << 63}, 0, 0)}, Reason::kTensorRangeInvalid, {"tensor w"});
  refused({entry("w", {uint64_t{1} << 32, uint64_t{1} << 32}, 0, 0)}, Reason::kTensorRangeInvalid,
          {"tensor w", "overflows"});
  refused({entry("w", {uint64_t{1} << 62}, 0, 0)}, Reason::kTensorRangeInvalid, {"overflows"});
  refused({entry("w", {65}, 0, 0)}, Reason::kTensorRangeInvalid, {"tensor w", "260 bytes"});
  refused({entry("w", {8}, 0, 256)}, Reason::kTensorRangeInvalid, {"tensor w", "offset 256"});
  refused({entry("w", {8}, 0, UINT64_MAX - 31)}, Reason::kTensorRangeInvalid, {"tensor w"});
  refused({entry("w", {8}, 0, 4)}, Reason::kTensorRangeInvalid, {"tensor w", "no multiple of 32"});
  refused({entry("v", {16}, 0, 0), entry("w", {8}, 0, 32)}, Reason::kTensorRangeInvalid,
          {"tensor w", "overlaps v"});
  refused({entry("w", {33}, 2, 0)}, Reason::kTensorShapeInvalid, {"tensor w", "33", "Q4_0"});
  refused({entry("w", {}, 2, 0)}, Reason::kTensorShapeInvalid, {"tensor w", "Q4_0"});
  refused({entry("w", {256}, 16, 0)}, Reason::kDtypeUnsupported, {"tensor w", "IQ2_XXS (16)"});
  refused({entry("w", {256}, 4, 0)}, Reason::kDtypeUnsupported, {"tensor w", "Q4_2"});
  refused({entry("w", {256}, 999, 0)}, Reason::kDtypeUnsupported, {"tensor w", "999"});
}

TEST(Gguf, EmptyTensorsAndScalarsAreTensors) {
  const auto header = Parse(RawGguf(
      {}, {GgufTensorEntry("none", {0, 7}, 0, 0), GgufTensorEntry("one", {}, 0, 0)}, "abcd"));
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_THAT(header->tensors[0].shape, ElementsAre(7, 0));
  EXPECT_EQ(header->tensors[0].begin, header->tensors[0].end);
  EXPECT_EQ(header->tensors[1].end - header->tensors[1].begin, 4u);
  // Not even an empty one may stand behind the end.
  std::string file = RawGguf({}, {GgufTensorEntry("none", {0}, 0, 0)}, "");
  EXPECT_TRUE(Parse(file).ok());
  file.pop_back();
  ExpectRefused(file, Reason::kTensorRangeInvalid, {"tensor none"});
}

TEST(Gguf, TensorsComeByOffset) {
  const auto header =
      Parse(RawGguf({}, {GgufTensorEntry("b", {8}, 0, 32), GgufTensorEntry("a", {8}, 0, 0)},
                    std::string(64, 'x')));
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(header->tensors[0].name, "a");
  EXPECT_EQ(header->tensors[1].name, "b");
}

TEST(Gguf, ReadsARealModel) {
  LINCHPIN_NEEDS_SHARED();
  const std::string file = ReadFileText(SharedPath("models/stories260k/stories260K-f32.gguf"));
  const auto header = Parse(file);
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(header->tensors.size(), 47u);
  EXPECT_EQ(header->metadata.size(), 23u);
  EXPECT_EQ(header->tensors.front().begin, 14240u);
  EXPECT_EQ(header->tensors.back().end, file.size());
  const auto words = std::get<GgufArray>(header->metadata.at("tokenizer.ggml.tokens")).Strings();
  ASSERT_TRUE(words.has_value());
  EXPECT_EQ(words->size(), 512u);
  EXPECT_THAT(std::vector(words->begin(), words->begin() + 4),
              ElementsAre("<unk>", "<s>", "</s>", "<0x00>"));
}

}  // namespace
}  // namespace linchpin
