// Artifacts made to harm us: what the manifest, config.json and the weights say of one
// another is not true.  Whoever makes one can make the digests true, and so does each
// case here where it does not say otherwise; `verify` then tells the rest of it by name,
// and a reader of the codes refuses what does not fit, or reads it as what it is.
#include <cmath>
#include <cstring>
#include <fstream>
#include <functional>
#include <limits>
#include <map>
#include <ostream>
#include <string>
#include <vector>

#include "artifact/verify.h"
#include "base/status.h"
#include "format/json.h"
#include "format/safetensors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "pipeline/evaluate.h"
#include "tests/support/written_artifact.h"

namespace linchpin {
namespace {

using ::testing::AllOfArray;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
const char kDown[] = "model.layers.1.mlp.down_proj.weight";  // [64, 160], groups of 32
const char kWeights[] = "model.safetensors";
const char kAdapter[] = "adapter/adapter_model.safetensors";

// Peak resident memory of this process in bytes.
uint64_t PeakMemory() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::stoull(line.substr(6)) * 1024;
  }
  return 0;
}

std::vector<TensorFixture> TensorsIn(const std::string& file) {
  const auto* bytes = reinterpret_cast<const std::byte*>(file.data());
  const auto length = SafetensorsHeaderLength("f", {bytes, 32}, file.size());
  const auto header = ParseSafetensorsHeader(
      "f", std::string_view(file).substr(kSafetensorsPrefixBytes, *length), file.size());
  std::vector<TensorFixture> tensors;
  for (const SafetensorsEntry& entry : header->entries) {
    tensors.push_back({entry.info, file.substr(entry.begin, entry.end - entry.begin)});
  }
  return tensors;
}

// An artifact taken apart.
struct Artifact {
  std::map<std::string, TensorFixture> tensors;
  std::map<std::string, TensorFixture> adapter;
  std::map<std::string, std::string> files;  // all others, as they are
  Json config;
  Json manifest;
  bool sealed = true;  // digests in the manifest are made true

  TensorFixture& Down(const std::string& part) { return tensors.at(kDown + part); }
  Json& Kept() { return manifest["super_weights"][0]; }
  Json& Group() { return config["quantization_config"]["config_groups"]["group_0"]; }
};

// Gives a tensor another shape or type, and as many bytes as that has.
void Reshape(TensorFixture& tensor, std::vector<int64_t> shape, std::optional<DType> dtype = {}) {
  tensor.info.shape = std::move(shape);
  tensor.info.dtype = dtype.value_or(tensor.info.dtype);
  tensor.bytes.resize(static_cast<size_t>(*ByteSize(tensor.info)));
}

TensorFixture ShapeOf(int64_t rows, int64_t columns) {
  TensorFixture shape = MakeCountingTensor(std::string(kDown) + "_shape", DType::kI64, {2});
  const int64_t values[] = {rows, columns};
  std::memcpy(shape.bytes.data(), values, sizeof(values));
  return shape;
}

std::string Deep(size_t levels) { return std::string(levels, '[') + std::string(levels, ']'); }

struct HostileCase {
  const char* name;
  const char* base;
  std::function<void(Artifact&)> change;
  std::vector<std::string> verify;    // what one line of it says; none: it matches
  std::vector<std::string> evaluate;  // what its error says; none: it has a finite loss

  friend void PrintTo(const HostileCase& hostile, std::ostream* out) { *out << hostile.name; }
};

QuantizeOptions OptionsOf(const std::string& base) {
  QuantizeOptions options{.scale = ScaleRule::kMinMax, .preserve = Preserve::kScale};
  options.group_size = base == "w8a8" ? 0 : 32;
  options.asymmetric = base == "asymmetric";
  if (base == "w8a8") options.scheme = Scheme::kW8A8;
  if (base == "lora") options.preserve = Preserve::kLora;
  if (base == "w8a8" || base == "asymmetric") options.preserve = Preserve::kNone;
  return options;
}

class HostileArtifact : public ::testing::TestWithParam<HostileCase> {
 protected:
  void Write(const std::string& base) {
    TinyCheckpoint tiny;
    tiny.edit = [](TensorFixture& tensor) {
      if (tensor.info.name == kDown) SetElement(tensor, 3, 77, 0.5F);
    };
    PutTinyCheckpoint(storage_, "in", tiny);
    const absl::Status status =
        WriteArtifact(storage_, "in", "out", OptionsOf(base), {{{kDown, 3, 77}, 0.5F}});
    ASSERT_TRUE(status.ok()) << status;
  }

  std::string File(const std::string& name) const { return ToText(storage_.Get("out/" + name)); }

  Artifact TakeApart() const {
    Artifact artifact{.config = Json::parse(File("config.json")),
                      .manifest = Json::parse(File("linchpin.json"))};
    const auto add = [](const std::string& file, std::map<std::string, TensorFixture>& tensors) {
      for (TensorFixture& tensor : TensorsIn(file)) tensors[tensor.info.name] = tensor;
    };
    add(File(kWeights), artifact.tensors);
    if (storage_.Get(std::string("out/") + kAdapter)) add(File(kAdapter), artifact.adapter);
    return artifact;
  }

  static std::string FileOf(const std::map<std::string, TensorFixture>& tensors) {
    std::vector<TensorFixture> listed;
    for (const auto& [name, tensor] : tensors) listed.push_back(tensor);
    return SafetensorsFile(listed);
  }

  void PutTogether(Artifact artifact) {
    std::map<std::string, std::string> files = {{"config.json", artifact.config.dump()},
                                                {kWeights, FileOf(artifact.tensors)}};
    if (!artifact.adapter.empty()) files[kAdapter] = FileOf(artifact.adapter);
    for (const auto& [name, text] : artifact.files) files[name] = text;
    for (const auto& [name, text] : files) storage_.Put("out/" + name, ToBytes(text));
    if (artifact.sealed) Seal(artifact, files);
    if (!files.contains("linchpin.json")) {
      storage_.Put("out/linchpin.json", ToBytes(artifact.manifest.dump()));
    }
  }

  // Makes the digests of files and tensors true, where they are of something.
  static void Seal(Artifact& artifact, const std::map<std::string, std::string>& files) {
    for (Json& file : artifact.manifest["output"]["files"]) {
      const auto found = files.find(file["name"].get<std::string>());
      if (found == files.end()) continue;
      file["size"] = found->second.size();
      file["sha256"] = Sha256Hex(found->second);
    }
    for (Json& tensor : artifact.manifest["tensors"]) {
      std::string bytes;
      for (const Json& output : tensor["outputs"]) {
        const auto found = artifact.tensors.find(output.get<std::string>());
        if (found != artifact.tensors.end()) bytes += found->second.bytes;
      }
      tensor["sha256"] = Sha256Hex(bytes);
    }
  }

  absl::StatusOr<Evaluation> Evaluated() const {
    return Evaluate(storage_, "out", {.tokens = {.ids = {{1, 5, 9, 3, 7}}}}, {.threads = 2});
  }

  // Every line of verify, or its error.
  std::vector<std::string> Verified() const {
    const absl::StatusOr<VerifyReport> report = VerifyArtifact(storage_, "out", {.threads = 2});
    if (!report.ok()) return {std::string(report.status().message())};
    return report->mismatches;
  }

  MemoryStorage storage_;
};

void ExpectOneSays(const std::vector<std::string>& lines, const std::vector<std::string>& words) {
  if (words.empty()) {
    EXPECT_THAT(lines, IsEmpty());
    return;
  }
  std::vector<::testing::Matcher<std::string>> all;
  for (const std::string& word : words) all.push_back(HasSubstr(word));
  EXPECT_THAT(lines, Contains(AllOfArray(all)));
  for (const std::string& line : lines) {
    EXPECT_LT(line.size(), 1000U);
    EXPECT_EQ(line.find_first_of(std::string("\n\r\0", 3)), std::string::npos) << line;
  }
}

TEST_P(HostileArtifact, IsToldByNameAndTakesNoMemory) {
  const HostileCase& hostile = GetParam();
  Write(hostile.base);
  EXPECT_THAT(Verified(), IsEmpty()) << "as it was written";
  ASSERT_TRUE(Evaluated().ok()) << "and what a forward pass needs is there from now on";
  Artifact artifact = TakeApart();
  hostile.change(artifact);
  PutTogether(std::move(artifact));
  const uint64_t before = PeakMemory();
  ExpectOneSays(Verified(), hostile.verify);
  const auto evaluation = Evaluated();
  if (hostile.evaluate.empty()) {
    ASSERT_TRUE(evaluation.ok()) << evaluation.status();
    EXPECT_TRUE(std::isfinite(evaluation->loss));
  } else {
    ASSERT_FALSE(evaluation.ok()) << evaluation->loss;
    ExpectOneSays({std::string(evaluation.status().message())}, hostile.evaluate);
  }
  EXPECT_LT(PeakMemory() - before, uint64_t{64} << 20);
}

// Codes, scales, zero points and shapes that do not belong together.
std::vector<HostileCase> PartCases() {
  const auto with_shape = [](int64_t rows, int64_t columns) {
    return [=](Artifact& a) { a.Down("_shape") = ShapeOf(rows, columns); };
  };
  const auto with_scale = [](std::vector<int64_t> shape, std::optional<DType> dtype = {}) {
    return [=](Artifact& a) { Reshape(a.Down("_scale"), shape, dtype); };
  };
  const std::string packed = std::string(kDown) + "_packed";
  const std::string scale = std::string(kDown) + "_scale";
  const std::string shape = std::string(kDown) + "_shape";
  const std::string zeros = std::string(kDown) + "_zero_point";
  return {
      {"CodesHalfAsWide",
       "w4a16",
       [](Artifact& a) {
         Reshape(a.Down("_packed"), {64, 10});
       },
       {packed, "rows of 160"},
       {kWeights, packed}},
      // Read as codes of 8 bits, which they are by their width.
      {"CodesTwiceAsWide",
       "w4a16",
       [](Artifact& a) {
         Reshape(a.Down("_packed"), {64, 40});
       },
       {kDown, "the manifest says 0.5"},
       {}},
      {"CodesOfFewerRows",
       "w4a16",
       [](Artifact& a) {
         Reshape(a.Down("_packed"), {32, 20});
       },
       {scale, "does not fit"},
       {kWeights, packed}},
      {"CodesOfNoRows",
       "w4a16",
       [](Artifact& a) {
         Reshape(a.Down("_packed"), {0, 20});
       },
       {packed, "no element"},
       {kWeights, packed}},
      {"CodesOfNoRowsAndALongOne",
       "w4a16",
       [](Artifact& a) {
         Reshape(a.Down("_packed"), {0, kMost / 8});
       },
       {packed},
       {kWeights, packed}},
      {"CodesInOneRow",
       "w4a16",
       [](Artifact& a) { Reshape(a.Down("_packed"), {1280}); },
       {packed, "not a matrix"},
       {kWeights, packed}},
      {"CodesOfAnotherType",
       "w4a16",
       [](Artifact& a) {
         Reshape(a.Down("_packed"), {64, 20}, DType::kF32);
       },
       {packed},
       {"tensor model.layers.1.mlp.down_proj.weight is missing"}},
      {"ARowMoreThanCodes", "w4a16", with_shape(65, 160), {}, {kWeights, packed}},
      {"RowsOfAnotherLength",
       "w4a16",
       with_shape(64, 159),
       {packed, "rows of 159"},
       {kWeights, packed}},
      {"RowsOfNothing", "w4a16", with_shape(64, 0), {packed}, {kWeights, packed}},
      {"ANegativeShape", "w4a16", with_shape(-64, -160), {packed}, {kWeights, packed}},
      {"AShapeOfAllThereIs", "w4a16", with_shape(kMost, kMost), {packed}, {kWeights, packed}},
      {"AShapeThatWraps",
       "w4a16",
       with_shape(64, (int64_t{1} << 61) + 20),
       {packed},
       {kWeights, packed}},
      {"AShapeOfThree",
       "w4a16",
       [](Artifact& a) { Reshape(a.Down("_shape"), {3}); },
       {shape},
       {kWeights, shape}},
      {"AShapeInFloats",
       "w4a16",
       [](Artifact& a) { Reshape(a.Down("_shape"), {2}, DType::kF32); },
       {shape},
       {kWeights, shape}},
      {"NoShape",
       "w4a16",
       [&](Artifact& a) { a.tensors.erase(std::string(kDown) + "_shape"); },
       {"_shape is missing"},
       {"_shape is missing"}},
      {"NoScale",
       "w4a16",
       [](Artifact& a) { a.tensors.erase(std::string(kDown) + "_scale"); },
       {"_scale is missing"},
       {"_scale is missing"}},
      {"NoCodes",
       "w4a16",
       [](Artifact& a) { a.tensors.erase(std::string(kDown) + "_packed"); },
       {"_packed is missing"},
       {"down_proj.weight is missing"}},
      {"GroupsThatDoNotDivide",
       "w4a16",
       with_scale({64, 3}),
       {scale, "does not fit rows of 160"},
       {kWeights, scale}},
      {"NoGroups", "w4a16", with_scale({64, 0}), {scale, "does not fit"}, {kWeights, scale}},
      {"ScalesOfFewerRows", "w4a16", with_scale({32, 5}), {scale}, {kWeights, scale}},
      {"MoreGroupsThanElements", "w4a16", with_scale({64, 320}), {scale}, {kWeights, scale}},
      {"ScalesOfFourDimensions", "w4a16", with_scale({64, 5, 1, 1}), {scale}, {kWeights, scale}},
      {"AScaleForAll", "w4a16", with_scale({}), {scale}, {kWeights, scale}},
      {"ScalesThatAreCodes", "w4a16", with_scale({64, 5}, DType::kI32), {scale}, {kWeights, scale}},
      {"ScalesOfEightBits",
       "w4a16",
       with_scale({64, 5}, DType::kF8E4M3),
       {scale},
       {kWeights, scale}},
      {"ZeroPointsOfFewerRows",
       "asymmetric",
       [](Artifact& a) {
         Reshape(a.Down("_zero_point"), {0, 5});
       },
       {zeros},
       {kWeights, zeros}},
      {"ZeroPointsOfOtherGroups",
       "asymmetric",
       [](Artifact& a) {
         Reshape(a.Down("_zero_point"), {8, 4});
       },
       {zeros},
       {kWeights, zeros}},
      {"ZeroPointsInFloats",
       "asymmetric",
       [](Artifact& a) {
         Reshape(a.Down("_zero_point"), {8, 5}, DType::kF32);
       },
       {zeros},
       {kWeights, zeros}},
      {"ScalesOfBytesInGroupsThatDoNotDivide",
       "w8a8",
       with_scale({64, 7}),
       {scale, "does not fit"},
       {kWeights, scale}},
      {"ScalesOfBytesOfFewerRows",
       "w8a8",
       with_scale({63, 1}),
       {scale, "does not fit"},
       {kWeights, scale}},
      {"BytesWithoutScales",
       "w8a8",
       [](Artifact& a) { a.tensors.erase(std::string(kDown) + "_scale"); },
       {"_scale is missing"},
       {kWeights, kDown, "I8"}},
      {"BytesOfFewerColumns",
       "w8a8",
       [](Artifact& a) {
         Reshape(a.Down(""), {64, 159});
       },
       {kDown, "the manifest says"},
       {kWeights, kDown, "[64, 159]"}},
      {"BytesThatAreUnsigned",
       "w8a8",
       [](Artifact& a) {
         Reshape(a.Down(""), {64, 160}, DType::kU8);
       },
       {kDown},
       {kWeights, kDown, "U8"}},
  };
}

void SetScale(Artifact& a, float value) {
  TensorFixture& scale = a.Down("_scale");
  SetElement(scale, 3, 2, value);
}

// Numbers that are none, or others.
std::vector<HostileCase> ValueCases() {
  const float infinity = std::numeric_limits<float>::infinity();
  const auto with_scale = [](float value) { return [=](Artifact& a) { SetScale(a, value); }; };
  return {
      {"AScaleThatIsNan",
       "w4a16",
       with_scale(std::nanf("")),
       {kDown, "[3, 77]: reads"},
       {"layer 1", kDown, "NaN"}},
      {"AnInfiniteScale",
       "w4a16",
       with_scale(infinity),
       {kDown, "inf, the manifest says"},
       {"layer 1", kDown, "infinite"}},
      {"AScaleOfNothing", "w4a16", with_scale(0), {kDown, "the manifest says 0.5 and exact"}, {}},
      {"AScaleThatOverflows",
       "w4a16",
       with_scale(3e38F),
       {kDown, "the manifest says 0.5"},
       {"layer 1", kDown}},
      {"BytesWithAnInfiniteScale",
       "w8a8",
       [infinity](Artifact& a) { SetElement(a.Down("_scale"), 3, 0, infinity); },
       {kDown, "inf, the manifest says"},
       {"layer 1", kDown, "infinite"}},
      {"AnotherZeroPoint",
       "asymmetric",
       [](Artifact& a) { a.Down("_zero_point").bytes.assign(8 * 5 * 4, '\xff'); },
       {kDown, "the manifest says"},
       {}},
  };
}

// What the manifest says of the weights.
std::vector<HostileCase> ManifestCases() {
  const auto kept = [](const char* key, const Json& value) {
    return [=](Artifact& a) { a.Kept()[key] = value; };
  };
  const std::string manifest = "out/linchpin.json";
  return {
      {"ARowThatIsNot", "w4a16", kept("row", 64), {kDown, "no element [64, 77]"}, {}},
      {"AColumnThatIsNot", "w4a16", kept("column", 160), {kDown, "no element [3, 160]"}, {}},
      {"TheLastRowOfAll", "w4a16", kept("row", kMost), {kDown, "no element"}, {}},
      {"TheLastColumnOfAll", "w8a8", kept("column", kMost), {kDown, "no element"}, {}},
      {"ARowBeyond64Bits", "w4a16", kept("row", 1e30), {manifest, "super_weights[0].row"}, {}},
      {"ATensorThatIsNot", "w4a16", kept("tensor", "nothing"), {"nothing: neither"}, {}},
      {"ATensorOfOneDimension",
       "w4a16",
       kept("tensor", "model.norm.weight"),
       {"model.norm.weight", "not a matrix"},
       {}},
      {"ATensorOfCodes",
       "w4a16",
       kept("tensor", std::string(kDown) + "_packed"),
       {std::string(kDown) + "_packed", "not a weight"},
       {}},
      {"AnAdapterThatIsNot", "w4a16", kept("kept", "lora"), {kAdapter}, {}},
      {"AnotherValue", "w4a16", kept("value", 0.25), {kDown, "reads 0.5", "exact"}, {}},
      {"AnotherStoredValue",
       "w4a16",
       kept("stored_value", -0.5),
       {kDown, "the manifest says -0.5"},
       {}},
      {"ADigestOfAFile",
       "w4a16",
       [](Artifact& a) {
         a.sealed = false;
         a.manifest["output"]["files"][0]["sha256"] = std::string(64, 'a');
       },
       {"SHA-256", "the manifest says aaaa"},
       {}},
      {"ADigestOfATensor",
       "w4a16",
       [](Artifact& a) {
         a.sealed = false;
         a.manifest["tensors"][1]["sha256"] = std::string(64, 'a');
       },
       {"model.layers.0", "the manifest says aaaa"},
       {}},
      {"AFileOfAllBytes",
       "w4a16",
       [](Artifact& a) {
         a.manifest["output"]["files"].push_back(
             {{"name", "huge"}, {"size", UINT64_MAX}, {"sha256", std::string(64, 'a')}});
       },
       {"huge: missing"},
       {}},
      {"AFileOfAllBytesThatIsThere",
       "w4a16",
       [](Artifact& a) {
         a.manifest["output"]["files"].push_back(
             {{"name", "huge"}, {"size", UINT64_MAX}, {"sha256", std::string(64, 'a')}});
         a.sealed = false;
         a.files["huge"] = "1";
       },
       {"huge: 1 bytes, the manifest says 18446744073709551615"},
       {}},
      {"FilesWithoutNumber",
       "w4a16",
       [](Artifact& a) {
         for (int i = 0; i < 20'000; ++i) {
           a.manifest["output"]["files"].push_back(
               {{"name", std::to_string(i)}, {"size", 1}, {"sha256", std::string(64, 'a')}});
         }
       },
       {"19999: missing"},
       {}},
      {"ATensorOfNothing",
       "w4a16",
       [](Artifact& a) { a.manifest["tensors"][0]["outputs"] = Json::array(); },
       {"model.embed_tokens.weight", "a tensor that the manifest does not name"},
       {}},
      {"OutputsThatAreNot",
       "w4a16",
       [](Artifact& a) {
         for (int i = 0; i < 20'000; ++i) a.manifest["tensors"][0]["outputs"].push_back("none");
       },
       {"tensor none is missing"},
       {}},
      {"ATensorMore",
       "w4a16",
       [](Artifact& a) { a.tensors["extra"] = MakeCountingTensor("extra", DType::kF32, {3}); },
       {"extra: a tensor that the manifest does not name"},
       {}},
      {"TheWeightItselfBesides",
       "w4a16",
       [](Artifact& a) {
         a.tensors[kDown] = MakeCountingTensor(kDown, DType::kBF16, {64, 160});
       },
       {kDown, "a tensor that the manifest does not name"},
       {kWeights, "the weight itself"}},
      {"AnOrderOfColumnsBesides",
       "w4a16",
       [](Artifact& a) {
         const std::string name = std::string(kDown) + "_g_idx";
         a.tensors[name] = MakeCountingTensor(name, DType::kI32, {160});
       },
       {"_g_idx: a tensor that the manifest does not name"},
       {kWeights, "another order"}},
      {"DeepManifest",
       "w4a16",
       [](Artifact& a) { a.files["linchpin.json"] = Deep(100'000); },
       {manifest, "deeper"},
       {}},
      {"TwoManifests",
       "w4a16",
       [](Artifact& a) { a.files["linchpin.json"] = "{}{}"; },
       {manifest},
       {}},
      {"AManifestOfTheNextVersion",
       "w4a16",
       [](Artifact& a) { a.manifest["manifest_version"] = 2; },
       {manifest, "manifest_version"},
       {}},
      {"WeightsThatEndBeforeTheirHeader",
       "w4a16",
       [](Artifact& a) { a.files[kWeights] = RawSafetensors(99'999'999, "{}", ""); },
       {kWeights},
       {kWeights}},
      {"WeightsThatAreAPickle",
       "w4a16",
       [](Artifact& a) { a.files[kWeights] = "\x80\x02." + std::string(40, 'x'); },
       {kWeights, "pickle"},
       {kWeights, "pickle"}},
  };
}

// What config.json says of them.
std::vector<HostileCase> ConfigCases() {
  const auto quantization = [](const std::string& pointer, const Json& value) {
    return
        [=](Artifact& a) { a.config["quantization_config"][Json::json_pointer(pointer)] = value; };
  };
  const std::string config = "out/config.json";
  return {
      {"DeepConfig",
       "w4a16",
       [](Artifact& a) { a.files["config.json"] = Deep(100'000); },
       {config, "deeper"},
       {config, "deeper"}},
      {"NoConfigAtAll",
       "w4a16",
       [](Artifact& a) { a.files["config.json"] = ""; },
       {config},
       {config}},
      {"GroupsThatAreNone", "w4a16", quantization("/config_groups", "all"), {}, {config}},
      {"GroupsThatAreEmpty",
       "w4a16",
       quantization("/config_groups", Json::object()),
       {},
       {config, "config_groups"}},
      {"NoGroupsAtAll",
       "w4a16",
       [](Artifact& a) { a.config["quantization_config"].erase("config_groups"); },
       {},
       {config, "config_groups"}},
      {"DeepTargets",
       "w4a16",
       quantization("/config_groups/group_0/targets", Json::parse(Deep(40))),
       {},
       {config, "targets"}},
      {"TargetsThatAreAProgram",
       "w4a16",
       quantization("/config_groups/group_0/targets", {"re:(a+)+$"}),
       {},
       {config, "(a+)+"}},
      {"OutputsThatAreRounded",
       "w4a16",
       quantization("/config_groups/group_0/output_activations", {{"num_bits", 8}}),
       {},
       {config, "output_activations"}},
      {"ACacheThatIsRounded",
       "w4a16",
       quantization("/kv_cache_scheme", {{"num_bits", 8}}),
       {},
       {config, "kv_cache_scheme"}},
      {"AFormatThatIsUnknown",
       "w4a16",
       quantization("/format", "other"),
       {},
       {"config.json", "already quantized"}},
      {"ALayerMore",
       "w4a16",
       [](Artifact& a) { a.config["num_hidden_layers"] = 3; },
       {},
       {"layers.2"}},
      {"AnotherWidth",
       "w4a16",
       [](Artifact& a) { a.config["intermediate_size"] = 161; },
       {},
       {kWeights, "layers.0.mlp"}},
  };
}

// The adapter beside the model.
std::vector<HostileCase> AdapterCases() {
  const std::string a_name = "base_model.model.model.layers.1.mlp.down_proj.lora_A.weight";
  const std::string b_name = "base_model.model.model.layers.1.mlp.down_proj.lora_B.weight";
  const auto factors = [=](std::vector<int64_t> a_shape, std::vector<int64_t> b_shape,
                           std::optional<DType> dtype = {}) {
    return [=](Artifact& artifact) {
      Reshape(artifact.adapter.at(a_name), a_shape, dtype);
      Reshape(artifact.adapter.at(b_name), b_shape, dtype);
    };
  };
  return {
      {"ARankWithoutEnd", "lora", factors({4097, 160}, {64, 4097}), {kAdapter, "no factors"}, {}},
      {"RanksThatDiffer", "lora", factors({2, 160}, {64, 1}), {kAdapter, "no factors"}, {}},
      {"NoRank", "lora", factors({0, 160}, {64, 0}), {kDown, "the manifest says 0.5"}, {}},
      {"FactorsOfFewerRows", "lora", factors({1, 160}, {3, 1}), {kAdapter, "no factors"}, {}},
      {"FactorsOfFewerColumns", "lora", factors({1, 77}, {64, 1}), {kAdapter, "no factors"}, {}},
      {"FactorsInOneRow", "lora", factors({160}, {64}), {kAdapter, "no factors"}, {}},
      {"FactorsOfAnotherType",
       "lora",
       factors({1, 160}, {64, 1}, DType::kBF16),
       {kAdapter, "nothing for", kDown},
       {}},
      {"FactorsThatAreNan",
       "lora",
       [=](Artifact& a) { SetElement(a.adapter.at(b_name), 3, 0, std::nanf("")); },
       {kDown, "[3, 77]: reads"},
       {}},
      {"NoSecondFactor",
       "lora",
       [=](Artifact& a) { a.adapter.erase(b_name); },
       {kAdapter, "nothing for", kDown},
       {}},
      {"AnAdapterWithoutAHeader",
       "lora",
       [](Artifact& a) { a.files[kAdapter] = "1234567"; },
       {kAdapter},
       {}},
      {"AnAdapterThatClaimsItsHeader",
       "lora",
       [](Artifact& a) { a.files[kAdapter] = RawSafetensors(99'999'999, "{}", ""); },
       {kAdapter},
       {}},
  };
}

const auto kNameOf = [](const auto& info) { return std::string(info.param.name); };
INSTANTIATE_TEST_SUITE_P(Parts, HostileArtifact, ::testing::ValuesIn(PartCases()), kNameOf);
INSTANTIATE_TEST_SUITE_P(Values, HostileArtifact, ::testing::ValuesIn(ValueCases()), kNameOf);
INSTANTIATE_TEST_SUITE_P(Manifest, HostileArtifact, ::testing::ValuesIn(ManifestCases()), kNameOf);
INSTANTIATE_TEST_SUITE_P(Config, HostileArtifact, ::testing::ValuesIn(ConfigCases()), kNameOf);
INSTANTIATE_TEST_SUITE_P(Adapter, HostileArtifact, ::testing::ValuesIn(AdapterCases()), kNameOf);

}  // namespace
}  // namespace linchpin
