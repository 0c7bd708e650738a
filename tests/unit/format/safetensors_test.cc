#include "format/safetensors.h"

#include <string>
#include <vector>

#include "base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/safetensors_file.h"
#include "tests/support/shared.h"

namespace linchpin {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// As a reader of files does it: length, then header.
absl::StatusOr<SafetensorsHeader> Parse(std::string_view file) {
  const auto prefix = absl::MakeConstSpan(reinterpret_cast<const std::byte*>(file.data()),
                                          std::min<size_t>(file.size(), 32));
  ASSIGN_OR_RETURN(const uint64_t length, SafetensorsHeaderLength("f", prefix, file.size()));
  return ParseSafetensorsHeader("f", file.substr(8, length), file.size());
}

void ExpectRefused(std::string_view file, Reason reason, const std::string& word) {
  const auto header = Parse(file);
  ASSERT_FALSE(header.ok());
  EXPECT_EQ(ReasonOf(header.status()), reason) << header.status();
  EXPECT_THAT(std::string(header.status().message()), AllOf(HasSubstr("f: "), HasSubstr(word)));
}

std::string Entry(const std::string& name, const std::string& dtype, const std::string& shape,
                  int begin, int end) {
  return "\"" + name + R"(":{"dtype":")" + dtype + R"(","shape":)" + shape +
         R"(,"data_offsets":[)" + std::to_string(begin) + "," + std::to_string(end) + "]}";
}

TEST(Safetensors, ReadsAFileByHand) {
  const std::string json = R"({"__metadata__":{"format":"pt"},)" +
                           Entry("b", "F32", "[2,1]", 2, 10) + "," +
                           Entry("a", "BF16", "[]", 0, 2) + "}   ";
  const auto header = Parse(RawSafetensors(json, std::string(10, 'x')));
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(header->metadata.at("format"), "pt");
  EXPECT_EQ(header->data_begin, 8 + json.size());
  ASSERT_EQ(header->entries.size(), 2u);
  EXPECT_EQ(header->entries[0].info, (TensorInfo{"a", DType::kBF16, {}}));
  EXPECT_EQ(header->entries[1].info, (TensorInfo{"b", DType::kF32, {2, 1}}));
  EXPECT_EQ(header->entries[1].begin, header->data_begin + 2);
  EXPECT_EQ(header->entries[1].end, header->data_begin + 10);
}

TEST(Safetensors, ReadsAFileWithoutTensors) {
  EXPECT_TRUE(Parse(RawSafetensors("{}", "")).ok());
  EXPECT_TRUE(Parse(RawSafetensors(R"({"__metadata__":{}})", "")).ok());
  EXPECT_TRUE(Parse(RawSafetensors(R"({"__metadata__":null})", "")).ok());
}

TEST(Safetensors, EveryDtypeComesBackFromItsLayout) {
  std::vector<TensorFixture> tensors;
  for (const char* name : {"BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "I16", "U16", "F16", "BF16",
                           "I32", "U32", "F32", "I64", "U64", "F64"}) {
    tensors.push_back(MakeCountingTensor(name, ParseDType(name).value(), {3}));
  }
  const auto header = Parse(SafetensorsFile(tensors));
  ASSERT_TRUE(header.ok()) << header.status();
  ASSERT_EQ(header->entries.size(), tensors.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    EXPECT_EQ(header->entries[i].info, tensors[i].info);
  }
}

TEST(Safetensors, ZeroSizeTensorsMayStandAtAnyBoundary) {
  for (const int offset : {0, 4, 8}) {
    const std::string json = "{" + Entry("a", "F32", "[1]", 0, 4) + "," +
                             Entry("none", "F32", "[0,7]", offset, offset) + "," +
                             Entry("nil", "F32", "[0]", offset, offset) + "," +
                             Entry("b", "F32", "[1]", 4, 8) + "}";
    const auto header = Parse(RawSafetensors(json, std::string(8, 'x')));
    EXPECT_TRUE(header.ok()) << header.status();
  }
  const std::string inside =
      "{" + Entry("a", "F32", "[1]", 0, 4) + "," + Entry("none", "F32", "[0]", 2, 2) + "}";
  ExpectRefused(RawSafetensors(inside, "xxxx"), Reason::kTensorRangeInvalid, "tensor none");
}

TEST(Safetensors, RefusesRangesThatDoNotCoverTheData) {
  const auto two = [](int begin, int end) {
    return "{" + Entry("a", "U8", "[4]", 0, 4) + "," +
           Entry("b", "U8", "[" + std::to_string(end - begin) + "]", begin, end) + "}";
  };
  EXPECT_TRUE(Parse(RawSafetensors(two(4, 8), "12345678")).ok());
  const Reason range = Reason::kTensorRangeInvalid;
  ExpectRefused(RawSafetensors(two(3, 8), "12345678"), range,
                "tensor b: its data begins at byte 3");
  ExpectRefused(RawSafetensors(two(3, 8), "12345678"), range, "overlaps a");
  ExpectRefused(RawSafetensors(two(5, 8), "12345678"), range, "leaves a hole after a");
  ExpectRefused(RawSafetensors(two(0, 4), "1234"), range, "tensor b");
  ExpectRefused(RawSafetensors(two(4, 8), "123456789"), range, "1 bytes after the last tensor, b");
  ExpectRefused(RawSafetensors(two(4, 8), "1234567"), range, "tensor b: its data ends at byte 8");
  ExpectRefused(RawSafetensors("{" + Entry("a", "U8", "[3]", 1, 4) + "}", "1234"), range,
                "leaves a hole after the header");
  ExpectRefused(RawSafetensors("{}", "x"), range, "belong to no tensor");
}

TEST(Safetensors, RefusesOffsetsThatAreNotTheTensorsSize) {
  const Reason range = Reason::kTensorRangeInvalid;
  ExpectRefused(RawSafetensors("{" + Entry("w", "F32", "[2]", 0, 4) + "}", "1234"), range,
                "tensor w: F32 [2] needs 8 bytes, data_offsets give 4");
  ExpectRefused(RawSafetensors("{" + Entry("w", "U8", "[4]", 4, 0) + "}", "1234"), range,
                "tensor w: data_offsets run backwards");
  ExpectRefused(
      RawSafetensors("{" + Entry("w", "F32", "[4611686018427387904,4]", 0, 4) + "}", "1234"), range,
      "tensor w: shape");
  ExpectRefused(RawSafetensors("{" + Entry("w", "U8", "[9223372036854775808]", 0, 4) + "}", "1234"),
                range, "tensor w: dimension 9223372036854775808");
  ExpectRefused(RawSafetensors("{" + Entry("w", "U8", "[4294967296,4294967296]", 0, 0) + "}", ""),
                range, "overflows");
}

TEST(Safetensors, RefusesUnknownDtypes) {
  for (const char* dtype : {"F128", "bf16", "", "I4"}) {
    ExpectRefused(RawSafetensors("{" + Entry("w", dtype, "[4]", 0, 4) + "}", "1234"),
                  Reason::kDtypeUnsupported, "tensor w");
  }
}

TEST(Safetensors, RefusesMalformedEntriesNamingTheTensor) {
  const auto entry = [](const std::string& body) {
    return RawSafetensors("{\"w\":" + body + "}", "1234");
  };
  const Reason invalid = Reason::kHeaderInvalid;
  for (const char* body : {R"({})",
                           R"({"dtype":"U8","shape":[4]})",
                           R"({"dtype":"U8","data_offsets":[0,4]})",
                           R"({"shape":[4],"data_offsets":[0,4]})",
                           R"({"dtype":"U8","shape":[4],"data_offsets":[0]})",
                           R"({"dtype":"U8","shape":[4],"data_offsets":[0,4,4]})",
                           R"({"dtype":"U8","shape":[4],"data_offsets":[-1,4]})",
                           R"({"dtype":"U8","shape":[4],"data_offsets":[0,4.0]})",
                           R"({"dtype":"U8","shape":[4],"data_offsets":[0,99999999999999999999]})",
                           R"({"dtype":"U8","shape":[4],"data_offsets":"04"})",
                           R"({"dtype":"U8","shape":[-4],"data_offsets":[0,4]})",
                           R"({"dtype":"U8","shape":[[4]],"data_offsets":[0,4]})",
                           R"({"dtype":"U8","shape":4,"data_offsets":[0,4]})",
                           R"({"dtype":"U8","shape":null,"data_offsets":[0,4]})",
                           R"({"dtype":1,"shape":[4],"data_offsets":[0,4]})",
                           R"({"dtype":"U8","dtype":"U8","shape":[4],"data_offsets":[0,4]})",
                           R"({"dtype":"U8","shape":[4],"shape":[4],"data_offsets":[0,4]})",
                           R"({"dtype":"U8","shape":[4],"data_offsets":[0,4],"more":1})",
                           R"([])",
                           R"("x")",
                           R"(1)",
                           R"(null)",
                           R"(true)"}) {
    ExpectRefused(entry(body), invalid, "tensor w");
  }
  std::string shape = "[1";
  for (int i = 0; i < 32; ++i) shape += ",1";
  ExpectRefused(RawSafetensors("{" + Entry("w", "U8", shape + "]", 0, 1) + "}", "1"), invalid,
                "dimensions");
}

TEST(Safetensors, RefusesMalformedHeaders) {
  const Reason invalid = Reason::kHeaderInvalid;
  for (const char* json :
       {"[]", " {}", "null", "{", "{}x", R"({"a" 1})", "{}}", R"({"__metadata__":1})",
        R"({"__metadata__":{"a":1}})", R"({"__metadata__":{"a":null}})",
        R"({"__metadata__":{"a":{}}})", R"({"__metadata__":[]})"}) {
    ExpectRefused(RawSafetensors(json, ""), invalid, "");
  }
  const std::string entry = Entry("w", "U8", "[0]", 0, 0);
  ExpectRefused(RawSafetensors("{" + entry + "," + entry + "}", ""), invalid,
                "duplicate key \"w\"");
  ExpectRefused(RawSafetensors(R"({"__metadata__":{},"__metadata__":{}})", ""), invalid,
                "duplicate key");
  ExpectRefused(RawSafetensors(R"({"__metadata__":{"a":"1","a":"2"}})", ""), invalid,
                "duplicate key \"a\"");
  ExpectRefused(RawSafetensors("{" + Entry("a\xff", "U8", "[0]", 0, 0) + "}", ""), invalid,
                "UTF-8");
  ExpectRefused(RawSafetensors("{" + Entry("a\\u0000b", "U8", "[0]", 0, 0) + "}", ""), invalid,
                "control");
}

TEST(Safetensors, RefusesLengthsThatCannotBe) {
  const Reason invalid = Reason::kHeaderInvalid;
  ExpectRefused("", invalid, "too few");
  ExpectRefused("1234567", invalid, "too few");
  ExpectRefused(RawSafetensors(0, "", ""), invalid, "not a JSON object");
  ExpectRefused(RawSafetensors(1, "{", ""), invalid, "not a JSON object");
  ExpectRefused(RawSafetensors(3, "{}", ""), invalid, "in a file of 10");
  ExpectRefused(RawSafetensors(100'000'000, "{}", ""), invalid, "in a file of 10");
  ExpectRefused(RawSafetensors(100'000'001, "{}", ""), invalid, "longer than 100000000");
  ExpectRefused(RawSafetensors(uint64_t{1} << 63, "{}", ""), invalid, "9223372036854775808");
  ExpectRefused(RawSafetensors(UINT64_MAX, "{}", ""), invalid, "longer than 100000000");
}

TEST(Safetensors, RefusesOtherFormatsByTheirFirstBytes) {
  using std::string_literals::operator""s;
  const std::string tail(64, '\0');
  const Reason refused = Reason::kFormatRefused;
  ExpectRefused("PK\x03\x04"s + tail, refused, "zip");
  ExpectRefused("PK\x03\x04\x00\x00\x08\x08"s + tail, refused, "zip");
  for (const char protocol : {2, 3, 4, 5}) {
    ExpectRefused("\x80"s + protocol + "}q" + tail, refused, "pickle");
  }
  ExpectRefused("\x80\x02."s, refused, "pickle");
  ExpectRefused("GGUF\x03"s + tail, refused, "GGUF");
  ExpectRefused("\x89HDF\r\n\x1a\n"s + tail, refused, "HDF5");
  ExpectRefused("\x93NUMPY"s + tail, refused, "NumPy");
  ExpectRefused("\x1f\x8b\x08"s + tail, refused, "gzip");
  ExpectRefused("version https://git-lfs.github.com/spec/v1\noid sha256:1\n", refused,
                "git lfs pull");
}

// A header of 0x0280 bytes begins like a pickle of protocol 2.
TEST(Safetensors, ALengthThatLooksLikeAPickleIsALength) {
  std::string json = "{}";
  json.resize(0x0280, ' ');
  const std::string file = RawSafetensors(json, "");
  ASSERT_EQ(file.substr(0, 2), "\x80\x02");
  EXPECT_TRUE(Parse(file).ok());
}

TEST(LayOut, BeginsDataAtAMultipleOfEightAndComesBack) {
  for (int length = 1; length <= 9; ++length) {
    const std::vector<TensorInfo> tensors = {{std::string(length, 'n'), DType::kF32, {2, 3}},
                                             {"empty", DType::kF32, {0}},
                                             {"scalar", DType::kI64, {}}};
    const SafetensorsLayout layout = LayOutSafetensors(tensors, {{"format", "pt"}});
    EXPECT_EQ(layout.header.size() % 8, 0u);
    EXPECT_EQ(layout.file_size, layout.header.size() + 32);
    const auto header = Parse(layout.header + std::string(32, 'x'));
    ASSERT_TRUE(header.ok()) << header.status();
    EXPECT_EQ(header->data_begin, layout.header.size());
    EXPECT_EQ(header->metadata.at("format"), "pt");
    ASSERT_EQ(header->entries.size(), layout.entries.size());
    for (size_t i = 0; i < tensors.size(); ++i) {
      EXPECT_EQ(header->entries[i].info, tensors[i]);
      EXPECT_EQ(header->entries[i].begin, layout.entries[i].begin);
      EXPECT_EQ(header->entries[i].end, layout.entries[i].end);
    }
  }
}

TEST(LayOut, EscapesNames) {
  const std::vector<TensorInfo> tensors = {{"a \"quoted\" \\ name é", DType::kU8, {0}}};
  const SafetensorsLayout layout = LayOutSafetensors(tensors, {{"k\"", "v\n"}});
  const auto header = Parse(layout.header);
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(header->entries[0].info.name, tensors[0].name);
  EXPECT_EQ(header->metadata.at("k\""), "v\n");
}

TEST(LayOut, OfNothingIsAnEmptyFile) {
  const SafetensorsLayout layout = LayOutSafetensors({}, {});
  EXPECT_EQ(layout.file_size, layout.header.size());
  EXPECT_TRUE(Parse(layout.header).ok());
}

TEST(Safetensors, TenThousandTinyTensorsAreQuick) {
  std::vector<TensorFixture> tensors;
  for (int i = 0; i < 10'000; ++i) {
    tensors.push_back(MakeCountingTensor("t" + std::to_string(i), DType::kU8, {1}, i));
  }
  const auto header = Parse(SafetensorsFile(tensors));
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(header->entries.size(), tensors.size());
}

TEST(Safetensors, ReadsWhatTheReferenceImplementationWrote) {
  LINCHPIN_NEEDS_SHARED();
  const std::string file = ReadFileText(SharedPath("models/tinystories-656k/model.safetensors"));
  const auto header = Parse(file);
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(header->metadata.at("model.embed_tokens.weight"), "lm_head.weight");
  EXPECT_EQ(header->entries.front().info, (TensorInfo{"lm_head.weight", DType::kF32, {2048, 128}}));
  EXPECT_EQ(header->entries.back().end, file.size());
}

}  // namespace
}  // namespace linchpin
