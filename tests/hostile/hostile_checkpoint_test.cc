// Checkpoints made to harm us: each is refused with its documented reason, by a
// message that names the file and, where there is one, the tensor.
#include <functional>
#include <map>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "checkpoint/checkpoint.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "storage/memory_storage.h"
#include "tests/support/safetensors_file.h"

namespace linchpin {
namespace {

using ::testing::HasSubstr;
using namespace std::string_literals;

constexpr char kConfig[] = R"({"model_type": "llama"})";

struct HostileCase {
  const char* name;
  // Makes the files besides a good config.json, and may replace that.
  std::function<std::map<std::string, std::string>()> files;
  Reason reason;
  std::vector<std::string> words;  // what the message must say

  friend void PrintTo(const HostileCase& hostile, std::ostream* out) { *out << hostile.name; }
};

std::string Entry(const std::string& tensor, const std::string& dtype, const std::string& shape,
                  const std::string& offsets) {
  return "\"" + tensor + R"(":{"dtype":")" + dtype + R"(","shape":[)" + shape +
         R"(],"data_offsets":[)" + offsets + "]}";
}

std::string Weights(const std::vector<std::string>& entries, size_t data_bytes) {
  std::string json;
  for (const std::string& entry : entries) json += (json.empty() ? "{" : ",") + entry;
  return RawSafetensors(json + "}", std::string(data_bytes, 'd'));
}

// A single weight file.
std::function<std::map<std::string, std::string>()> Single(std::string content) {
  return [content = std::move(content)]() -> std::map<std::string, std::string> {
    return {{"model.safetensors", content}};
  };
}

// A good shard and an index that maps "w" to `shard`, given as JSON.
std::function<std::map<std::string, std::string>()> Indexed(const std::string& shard) {
  return [shard]() -> std::map<std::string, std::string> {
    return {{"a.safetensors", Weights({Entry("w", "U8", "4", "0,4")}, 4)},
            {"model.safetensors.index.json", R"({"weight_map":{"w":)" + shard + "}}"}};
  };
}

std::string Repeat(std::string_view text, size_t count) {
  std::string repeated;
  for (size_t i = 0; i < count; ++i) repeated += text;
  return repeated;
}

const std::string& GoodFile() {
  static const auto& file = *new std::string(
      Weights({Entry("first", "F32", "2,2", "0,16"), Entry("last", "BF16", "4", "16,24")}, 24));
  return file;
}

std::vector<HostileCase> HeaderCases() {
  const std::string file = "m/model.safetensors";
  const Reason invalid = Reason::kHeaderInvalid;
  return {
      {"Empty", Single(""), invalid, {file, "0 bytes"}},
      {"SevenBytes", Single("1234567"), invalid, {file}},
      {"LengthOf2To63", Single(RawSafetensors(uint64_t{1} << 63, "{}", "")), invalid, {file}},
      {"LengthOfAllOnes", Single(RawSafetensors(UINT64_MAX, "{}", "")), invalid, {file}},
      {"LengthThatOverflowsWithItsPrefix",
       Single(RawSafetensors(UINT64_MAX - 7, "{}", "")),
       invalid,
       {file}},
      {"HundredMegabytesClaimed",
       Single(RawSafetensors(100'000'000, "{}", "")),
       invalid,
       {file, "truncated"}},
      {"MoreThanAllowedClaimed",
       Single(RawSafetensors(100'000'001, "{}", "")),
       invalid,
       {file, "100000000"}},
      {"HeaderCutShort", Single(GoodFile().substr(0, 40)), invalid, {file, "truncated"}},
      {"DeepArrays",
       Single(RawSafetensors("{\"w\":" + Repeat("[", 100'000), "")),
       invalid,
       {file, "tensor w"}},
      {"DeepObjects", Single(RawSafetensors(Repeat("{\"w\":", 100'000), "")), invalid, {file}},
      {"DeepMetadata",
       Single(RawSafetensors("{\"__metadata__\":" + Repeat("{\"a\":", 1000), "")),
       invalid,
       {file}},
      {"DuplicateTensor",
       Single(Weights({Entry("twin", "U8", "4", "0,4"), Entry("twin", "U8", "4", "0,4")}, 4)),
       invalid,
       {file, "twin"}},
      {"DuplicateTensorByEscape",
       Single(Weights({Entry("twin", "U8", "4", "0,4"), Entry("tw\\u0069n", "U8", "4", "4,8")}, 8)),
       invalid,
       {file, "twin"}},
      {"NameNotUtf8",
       Single(Weights({Entry("w\xff\xfe", "U8", "4", "0,4")}, 4)),
       invalid,
       {file, "UTF-8"}},
      {"NameWithNul", Single(Weights({Entry("w\\u0000", "U8", "4", "0,4")}, 4)), invalid, {file}},
      {"BytesAfterTheObject", Single(RawSafetensors("{}{\"w\":1}", "")), invalid, {file}},
      {"NulAfterTheObject", Single(RawSafetensors("{}\0garbage"s, "")), invalid, {file, "NUL"}},
      {"OffsetsAsFloats",
       Single(Weights({Entry("w", "U8", "4", "0,4.0")}, 4)),
       invalid,
       {file, "tensor w"}},
      {"OffsetsTooLargeFor64Bits",
       Single(Weights({Entry("w", "U8", "4", "0,18446744073709551616")}, 4)),
       invalid,
       {file, "tensor w"}},
      {"NegativeOffset",
       Single(Weights({Entry("w", "U8", "4", "-4,0")}, 4)),
       invalid,
       {file, "tensor w"}},
      {"NegativeDimension",
       Single(Weights({Entry("w", "U8", "-4,-1", "0,4")}, 4)),
       invalid,
       {file, "tensor w"}},
      {"UnknownDtype",
       Single(Weights({Entry("w", "Q4_K", "4", "0,4")}, 4)),
       Reason::kDtypeUnsupported,
       {file, "tensor w", "Q4_K"}},
  };
}

std::vector<HostileCase> RangeCases() {
  const std::string file = "m/model.safetensors";
  const Reason range = Reason::kTensorRangeInvalid;
  const std::string a = Entry("a", "U8", "4", "0,4");
  return {
      {"DataCutShort",
       Single(GoodFile().substr(0, GoodFile().size() - 1)),
       range,
       {file, "tensor last", "truncated"}},
      {"NoDataAtAll",
       Single(GoodFile().substr(0, GoodFile().size() - 24)),
       range,
       {file, "tensor first"}},
      {"TrailingBytes", Single(GoodFile() + "x"), range, {file, "1 bytes after"}},
      {"Overlap",
       Single(Weights({a, Entry("b", "U8", "4", "3,7")}, 7)),
       range,
       {file, "tensor b", "overlaps a"}},
      {"SameBytesTwice",
       Single(Weights({a, Entry("b", "U8", "4", "0,4")}, 4)),
       range,
       {file, "overlaps"}},
      {"Hole",
       Single(Weights({a, Entry("b", "U8", "4", "5,9")}, 9)),
       range,
       {file, "tensor b", "hole after a"}},
      {"HoleInFront",
       Single(Weights({Entry("b", "U8", "4", "1,5")}, 5)),
       range,
       {file, "tensor b", "hole"}},
      {"DeclaredLargerThanItsData",
       Single(Weights({Entry("w", "F32", "1024,1024", "0,4")}, 4)),
       range,
       {file, "tensor w", "4194304"}},
      {"DeclaredSmallerThanItsData",
       Single(Weights({Entry("w", "F32", "1", "0,8")}, 8)),
       range,
       {file, "tensor w"}},
      {"EndBeforeBegin",
       Single(Weights({Entry("w", "U8", "4", "4,0")}, 4)),
       range,
       {file, "tensor w", "backwards"}},
      {"EndPastTheFile",
       Single(Weights({Entry("w", "U8", "400", "0,400")}, 4)),
       range,
       {file, "tensor w"}},
      {"OffsetsNearTheEndOf64Bits",
       Single(Weights({Entry("w", "U8", "1", "18446744073709551614,18446744073709551615")}, 4)),
       range,
       {file, "tensor w"}},
      {"ShapeThatWrapsToZero",
       Single(Weights({Entry("w", "U8", "4294967296,4294967296", "0,0")}, 0)),
       range,
       {file, "tensor w", "overflows"}},
      {"ShapeThatWrapsToItsSize",
       Single(Weights({Entry("w", "U8", "6148914691236517206,3", "0,2")}, 2)),
       range,
       {file, "tensor w", "overflows"}},
      {"BytesThatWrap",
       Single(Weights({Entry("w", "F64", "2305843009213693952", "0,0")}, 0)),
       range,
       {file, "tensor w", "overflows"}},
      {"DimensionOf2To63",
       Single(Weights({Entry("w", "U8", "9223372036854775808", "0,4")}, 4)),
       range,
       {file, "tensor w"}},
      {"ZeroSizeInsideAnother",
       Single(Weights({a, Entry("z", "F32", "0", "2,2")}, 4)),
       range,
       {file, "tensor z"}},
      {"ZeroSizePastTheEnd",
       Single(Weights({a, Entry("z", "F32", "0", "5,5")}, 4)),
       range,
       {file, "tensor z"}},
      {"ZeroHidesAnOverflow",
       Single(Weights({Entry("z", "U8", "0,9223372036854775807,2", "0,0")}, 0)),
       range,
       {file, "tensor z"}},
  };
}

std::vector<HostileCase> DisguiseCases() {
  const std::string file = "m/model.safetensors";
  const Reason refused = Reason::kFormatRefused;
  const std::string tail(256, '\0');
  return {
      {"PickleOfProtocol2", Single("\x80\x02}q\x00X"s + tail), refused, {file, "pickle"}},
      {"PickleOfProtocol4", Single("\x80\x04\x95"s + tail), refused, {file, "pickle"}},
      {"ShortPickle", Single("\x80\x02."s), refused, {file, "pickle"}},
      {"TorchZip", Single("PK\x03\x04\x00\x00\x08\x08"s + tail), refused, {file, "zip"}},
      {"PlainZip", Single("PK\x03\x04\x14\x00\x00\x00"s + tail), refused, {file, "zip"}},
      // Its first eight bytes are a length below 100 MB.
      {"ZipWithAPlausibleLength",
       Single("PK\x03\x04\x00\x00\x00\x00"s + tail),
       refused,
       {file, "zip"}},
      {"Gguf", Single("GGUF\x03\x00\x00\x00"s + tail), refused, {file, "GGUF"}},
      {"Hdf5", Single("\x89HDF\r\n\x1a\n"s + tail), refused, {file, "HDF5"}},
      {"Gzip", Single("\x1f\x8b\x08\x00"s + tail), refused, {file, "gzip"}},
      {"LfsPointer",
       Single("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
       refused,
       {file, "git lfs pull"}},
  };
}

std::vector<HostileCase> IndexCases() {
  const std::string file = "m/model.safetensors.index.json";
  const Reason invalid = Reason::kIndexInvalid;
  std::vector<HostileCase> cases = {
      {"NoShard", Indexed(R"("b.safetensors")"), invalid, {file, "b.safetensors"}},
      {"ShardNameNotAString", Indexed("7"), invalid, {file, "tensor w"}},
      {"DuplicateKey", Indexed(R"("a.safetensors","w":"a.safetensors")"), invalid, {file, "\"w\""}},
      {"OneTensorMore",
       Indexed(R"("a.safetensors","extra":"a.safetensors")"),
       invalid,
       {file, "extra", "a.safetensors"}},
      {"Deep", Indexed(Repeat("[", 1000)), invalid, {file, "deeper"}},
      {"NulAfterIt", Indexed("\"a.safetensors\"}}\0{{"s), invalid, {file, "NUL"}},
  };
  const std::pair<const char*, const char*> names[] = {
      {"Parent", R"("../a.safetensors")"},
      {"ParentInside", R"("x/../a.safetensors")"},
      {"Absolute", R"("/m/a.safetensors")"},
      {"Folder", R"("x/a.safetensors")"},
      {"Backslash", R"("..\\a.safetensors")"},
      {"PercentEscape", R"("%2e%2e%2fa.safetensors")"},
      {"PercentEscapeOfADot", R"("%2e.safetensors")"},
      {"Nul", R"("a.safetensors\u0000.safetensors")"},
      {"LineBreak", R"("a\n.safetensors")"},
      {"Uri", R"("http://h/a.safetensors")"},
      {"Pickle", R"("pytorch_model.bin")"},
      {"Hidden", R"(".a.safetensors")"},
      {"Empty", R"("")"},
      {"DotDot", R"("..")"},
  };
  for (const auto& [name, shard] : names) {
    cases.push_back({name, Indexed(shard), invalid, {file, "tensor w"}});
  }
  return cases;
}

std::vector<HostileCase> MixedCases() {
  const std::string shard = Weights({Entry("w", "U8", "4", "0,4")}, 4);
  const auto with_config = [shard](std::string config) {
    return [=]() -> std::map<std::string, std::string> {
      return {{"model.safetensors", shard}, {"config.json", config}};
    };
  };
  return {
      {"ConfigDeep",
       with_config(Repeat("[", 100'000)),
       Reason::kConfigInvalid,
       {"m/config.json", "deeper"}},
      {"ConfigDuplicateKey",
       with_config(R"({"a": 1, "a": 2})"),
       Reason::kConfigInvalid,
       {"m/config.json", "duplicate"}},
      {"ConfigNotUtf8",
       with_config("{\"a\": \"\xff\"}"),
       Reason::kConfigInvalid,
       {"m/config.json", "UTF-8"}},
      {"ConfigOf11Megabytes",
       with_config(Repeat(" ", 11'000'000)),
       Reason::kHeaderInvalid,
       {"m/config.json", "10000000"}},
      {"OneTensorInTwoShards",
       [shard]() -> std::map<std::string, std::string> {
         return {{"a.safetensors", shard},
                 {"b.safetensors",
                  Weights({Entry("w", "U8", "4", "0,4"), Entry("v", "U8", "4", "4,8")}, 8)},
                 {"model.safetensors.index.json",
                  R"({"weight_map":{"w":"a.safetensors","v":"b.safetensors"}})"}};
       },
       Reason::kIndexInvalid,
       {"b.safetensors", "tensor w", "a.safetensors"}},
      {"PicklesAlone",
       []() -> std::map<std::string, std::string> {
         return {{"pytorch_model.bin", "\x80\x02."}};
       },
       Reason::kNotACheckpoint,
       {"pytorch_model.bin", "convert"}},
  };
}

class HostileCheckpoint : public ::testing::TestWithParam<HostileCase> {};

TEST_P(HostileCheckpoint, IsRefusedByName) {
  MemoryStorage storage;
  storage.Put("m/config.json", ToBytes(kConfig));
  for (const auto& [name, content] : GetParam().files()) storage.Put("m/" + name, ToBytes(content));
  const auto checkpoint = Checkpoint::Open(storage, "m");
  ASSERT_FALSE(checkpoint.ok());
  EXPECT_EQ(ReasonOf(checkpoint.status()), GetParam().reason) << checkpoint.status();
  const std::string message(checkpoint.status().message());
  for (const std::string& word : GetParam().words) EXPECT_THAT(message, HasSubstr(word));
  EXPECT_LT(message.size(), 1000u);
  EXPECT_EQ(message.find_first_of("\n\r\0"s), std::string::npos);
}

const auto kNameOf = [](const auto& info) { return std::string(info.param.name); };
INSTANTIATE_TEST_SUITE_P(Header, HostileCheckpoint, ::testing::ValuesIn(HeaderCases()), kNameOf);
INSTANTIATE_TEST_SUITE_P(Range, HostileCheckpoint, ::testing::ValuesIn(RangeCases()), kNameOf);
INSTANTIATE_TEST_SUITE_P(Disguise, HostileCheckpoint, ::testing::ValuesIn(DisguiseCases()),
                         kNameOf);
INSTANTIATE_TEST_SUITE_P(Index, HostileCheckpoint, ::testing::ValuesIn(IndexCases()), kNameOf);
INSTANTIATE_TEST_SUITE_P(Mixed, HostileCheckpoint, ::testing::ValuesIn(MixedCases()), kNameOf);

// What looks strange and is right must not be refused.
TEST(StrangeCheckpoint, GoodFileOpens) {
  MemoryStorage storage;
  storage.Put("m/config.json", ToBytes(kConfig));
  storage.Put("m/model.safetensors", ToBytes(GoodFile()));
  EXPECT_TRUE(Checkpoint::Open(storage, "m").ok());
}

TEST(StrangeCheckpoint, ManyZeroSizeTensorsMayShareAnOffset) {
  MemoryStorage storage;
  storage.Put("m/config.json", ToBytes(kConfig));
  std::vector<std::string> entries = {Entry("a", "U8", "4", "0,4"), Entry("b", "U8", "4", "4,8")};
  for (int i = 0; i < 30; ++i) {
    const std::string offset = std::to_string(i % 3 * 4);
    entries.push_back(Entry("z" + std::to_string(i), "F32", "3,0", offset + "," + offset));
  }
  storage.Put("m/model.safetensors", ToBytes(Weights(entries, 8)));
  const auto checkpoint = Checkpoint::Open(storage, "m");
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const auto rows = checkpoint->ReadRows(**checkpoint->Find("z7"), 0, 3);
  ASSERT_TRUE(rows.ok()) << rows.status();
  EXPECT_EQ(rows->columns, 0);
}

TEST(StrangeCheckpoint, TenThousandTinyTensorsInAHundredShardsOpen) {
  MemoryStorage storage;
  storage.Put("m/config.json", ToBytes(kConfig));
  std::string weight_map;
  for (int shard = 0; shard < 100; ++shard) {
    std::vector<TensorFixture> tensors;
    const std::string name = "s" + std::to_string(shard) + ".safetensors";
    for (int i = 0; i < 100; ++i) {
      tensors.push_back(
          MakeCountingTensor("t" + std::to_string(shard * 100 + i), DType::kU8, {1}, i));
      weight_map +=
          (weight_map.empty() ? "\"" : ",\"") + tensors.back().info.name + "\":\"" + name + "\"";
    }
    storage.Put("m/" + name, ToBytes(SafetensorsFile(tensors)));
  }
  storage.Put("m/model.safetensors.index.json", ToBytes("{\"weight_map\":{" + weight_map + "}}"));
  const auto checkpoint = Checkpoint::Open(storage, "m");
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ(checkpoint->tensors().size(), 10'000u);
}

}  // namespace
}  // namespace linchpin
