#include "tests/golden/golden_case.h"

#include <map>
#include <memory>
#include <utility>

#include "artifact/digest.h"
#include "artifact/manifest.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/pre_tokenizer.h"
#include "fmt/format.h"
#include "gtest/gtest.h"
#include "quantize/block_encoder.h"
#include "tests/support/written_artifact.h"

namespace linchpin {
namespace {

constexpr ScaleRule kRules[] = {ScaleRule::kImportance, ScaleRule::kSigned, ScaleRule::kMinMax,
                                ScaleRule::kMse};
constexpr float kSuperWeight = 0.30078125F;
constexpr int64_t kRow = 3;
constexpr int64_t kColumn = 77;
constexpr size_t kDigits = 16;

// Rows of 128 and 256: groups of any size.
const TinyCheckpoint kSmall{.hidden = 128, .intermediate = 256};
// Rows that the blocks of every type of GGUF divide, and a row for every byte.
const TinyCheckpoint kWide{.hidden = 256, .intermediate = 256, .layers = 1, .vocab = 258};
const TinyCheckpoint kExperts{
    .hidden = 256, .intermediate = 256, .layers = 1, .vocab = 258, .experts = 3};

std::string HolderOf(const TinyCheckpoint& source) {
  return fmt::format("model.layers.{}.{}.weight", source.layers - 1,
                     source.experts > 0 ? "block_sparse_moe.experts.1.w2" : "mlp.down_proj");
}

// By whole numbers, so that it is the same everywhere.  No token reached one of the experts.
Importance ImportanceOf(const Checkpoint& checkpoint) {
  Importance importance;
  uint64_t seed = 0;
  for (const StoredTensor& tensor : checkpoint.tensors()) {
    const std::string& name = tensor.info.name;
    ++seed;
    if (tensor.info.shape.size() != 2 || !name.starts_with("model.layers.") ||
        name.ends_with("experts.2.w1.weight")) {
      continue;
    }
    InputStatistics statistics{.tokens = 77};
    for (int64_t i = 0; i < tensor.info.shape[1]; ++i) {
      const uint64_t bits = MixBits(seed * 1000003 + static_cast<uint64_t>(i));
      const auto square = static_cast<float>(1 + bits % 4096) / 256;
      statistics.mean_squares.push_back((bits >> 32) % 61 == 0 ? 1024 * square : square);
    }
    importance[name] = std::make_shared<InputStatistics>(std::move(statistics));
  }
  return importance;
}

// A token for every byte: one that GGUF takes.
std::string ByteTokenizer() {
  Json vocabulary = Json::object();
  int id = 0;
  for (const std::string& character : ByteCharacters()) vocabulary[character] = id++;
  const Json tokenizer = {
      {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}},
      {"model", {{"type", "BPE"}, {"merges", Json::array()}, {"vocab", vocabulary}}}};
  return tokenizer.dump();
}

// Whether an output of its own shows it: what is rounded in one way only has one rule, and a
// dense output is what a reader of the codes gets.
bool IsOfItsOwn(const QuantizeOptions& options) {
  const SchemeTraits& scheme = TraitsOf(options.scheme);
  if (options.scale == ScaleRule::kImportance) return true;
  if (scheme.codes == CodeKind::kNone) return false;
  if (options.format == Format::kDense && options.scale != ScaleRule::kMinMax) return false;
  return scheme.codes != CodeKind::kGgufBlocks ||
         WeighsErrors(*FindGgufBlockType(scheme.gguf_type));
}

void AddSchemes(std::vector<GoldenCase>& cases) {
  for (const SchemeTraits& scheme : Schemes()) {
    for (const Format format : scheme.formats) {
      for (const bool asymmetric : {false, true}) {
        for (const ScaleRule rule : kRules) {
          const QuantizeOptions options{
              .format = format, .scheme = scheme.scheme, .asymmetric = asymmetric, .scale = rule};
          if (!CheckOptions(options).ok() || !IsOfItsOwn(options)) continue;
          cases.push_back({fmt::format("{} {}{} {}", NameOf(format), scheme.name,
                                       asymmetric ? " asymmetric" : "", NameOf(rule)),
                           scheme.codes == CodeKind::kGgufBlocks ? kWide : kSmall, options});
        }
      }
    }
  }
}

void AddGroups(std::vector<GoldenCase>& cases) {
  for (const int64_t group : {32, 64, 128, -1}) {
    const std::string name(GroupSizeName(group));
    cases.push_back({"group " + name, kSmall, {.group_size = group}});
    cases.push_back(
        {"group " + name + " asymmetric", kSmall, {.group_size = group, .asymmetric = true}});
    cases.push_back(
        {"group " + name + " w8a16", kSmall, {.scheme = Scheme::kW8A16, .group_size = group}});
  }
  cases.push_back({"rows that no group divides", {.intermediate = 88}, {}});
}

void AddSources(std::vector<GoldenCase>& cases) {
  cases.push_back({"f16", {.dtype = DType::kF16}, {}});
  cases.push_back({"f32 in two shards", {.dtype = DType::kF32, .shards = 2}, {}});
  cases.push_back({"nothing measured", {}, {}, /*measured=*/false});
  cases.push_back({"nothing measured, asymmetric", {}, {.asymmetric = true}, false});
  cases.push_back(
      {"nothing measured, q4_k", kWide, {.format = Format::kGguf, .scheme = Scheme::kQ4_K}, false});
  for (const Scheme scheme : {Scheme::kW4A16, Scheme::kW8A16, Scheme::kFp8}) {
    cases.push_back({fmt::format("experts {}", NameOf(scheme)), kExperts, {.scheme = scheme}});
  }
  cases.push_back({"experts none kept", kExperts, {.preserve = Preserve::kNone}});
  cases.push_back(
      {"experts q4_k",
       kExperts,
       {.format = Format::kGguf, .scheme = Scheme::kQ4_K, .preserve = Preserve::kNone}});
  cases.push_back({"experts dense", kExperts, {.format = Format::kDense}});
}

void AddPreserved(std::vector<GoldenCase>& cases) {
  for (const Format format : {Format::kCompressedTensors, Format::kGguf, Format::kDense}) {
    for (const Preserve preserve : {Preserve::kTensor, Preserve::kScale, Preserve::kLora,
                                    Preserve::kRestore, Preserve::kNone}) {
      const QuantizeOptions options{.format = format, .preserve = preserve};
      // The default of GGUF stands among the schemes.
      const bool known = format == Format::kGguf && preserve == Preserve::kTensor;
      if (known || !CheckOptions(options).ok()) continue;
      cases.push_back({fmt::format("preserve {} {}", NameOf(preserve), NameOf(format)),
                       format == Format::kGguf ? kWide : TinyCheckpoint{}, options});
    }
  }
  cases.push_back({"preserve scale minmax f16",
                   {.dtype = DType::kF16},
                   {.group_size = -1, .scale = ScaleRule::kMinMax, .preserve = Preserve::kScale}});
}

void AddOthers(std::vector<GoldenCase>& cases) {
  TinyCheckpoint untied = kSmall;
  untied.tied = false;
  for (const Scheme scheme : {Scheme::kW8A16, Scheme::kW8A8, Scheme::kFp8}) {
    cases.push_back({fmt::format("embeddings and head 8 {}", NameOf(scheme)),
                     untied,
                     {.scheme = scheme, .embeddings = 8, .lm_head = 8}});
  }
  cases.push_back({"embeddings 8 tied", kSmall, {.scheme = Scheme::kW8A16, .embeddings = 8}});
  cases.push_back({"head 8 w4a16", untied, {.lm_head = 8}});
  cases.push_back({"equalize", kSmall, {.equalize = true}});
  cases.push_back({"equalize w8a8", kSmall, {.scheme = Scheme::kW8A8, .equalize = true}});
  cases.push_back({"equalize q4_k",
                   kWide,
                   {.format = Format::kGguf, .scheme = Scheme::kQ4_K, .equalize = true}});
  cases.push_back({"ignore and include",
                   kSmall,
                   {.ignore = {"*.o_proj"}, .include = {"*.self_attn.*", "*.up_proj"}}});
  cases.push_back({"blocks of runs, clipped",
                   {},
                   {.format = Format::kDense, .scheme = Scheme::kBlocks, .blocks = {.z = 2}}});
  cases.push_back({"blocks of tiles",
                   {},
                   {.format = Format::kDense,
                    .scheme = Scheme::kBlocks,
                    .preserve = Preserve::kRestore,
                    .blocks = {.bits = 3, .tile = 24}}});
  cases.push_back({"pruned by a third",
                   {},
                   {.format = Format::kDense,
                    .scheme = Scheme::kPruned,
                    .preserve = Preserve::kRestore,
                    .sparsity = 0.3}});
}

bool HoldsWeights(std::string_view name) {
  return name.ends_with(".safetensors") || name.ends_with(".gguf") || name.ends_with(".index.json");
}

// Of a text that begins with its version.
std::string WithoutVersion(const std::string& text) {
  Json manifest = Json::parse(text);
  EXPECT_EQ(manifest["tool"]["version"], LINCHPIN_VERSION);
  manifest["tool"].erase("version");
  return SerializeManifest(manifest);
}

}  // namespace

std::vector<GoldenCase> GoldenCases() {
  std::vector<GoldenCase> cases;
  AddSchemes(cases);
  AddGroups(cases);
  AddSources(cases);
  AddPreserved(cases);
  AddOthers(cases);
  return cases;
}

Json DigestsOf(const GoldenCase& golden, const RunContext& context) {
  const std::string holder = HolderOf(golden.source);
  TinyCheckpoint source = golden.source;
  source.edit = [&holder](TensorFixture& tensor) {
    if (tensor.info.name == holder) SetElement(tensor, kRow, kColumn, kSuperWeight);
  };
  MemoryStorage storage;
  PutTinyCheckpoint(storage, "in", source);
  if (golden.options.format == Format::kGguf) {
    storage.Put("in/tokenizer.json", ToBytes(ByteTokenizer()));
  }
  const absl::Status status = WriteArtifact(
      storage, "in", "out", golden.options, {{{holder, kRow, kColumn}, kSuperWeight}}, context,
      golden.measured ? ImportanceOf(*Checkpoint::Open(storage, "in")) : Importance());
  EXPECT_TRUE(status.ok()) << golden.name << ": " << status;
  Json digests = {{"weights", ""}, {"beside", ""}, {"manifest", ""}};
  if (!status.ok()) return digests;
  std::map<std::string, std::string> texts;
  const std::vector<FileEntry> files = storage.List("out").value();
  for (const FileEntry& file : files) {
    const std::string text = ToText(storage.Get("out/" + file.name));
    if (file.name == kManifestName) {
      texts["manifest"] = WithoutVersion(text);
    } else {
      texts[HoldsWeights(file.name) ? "weights" : "beside"] += file.name + Sha256Hex(text);
    }
  }
  for (const auto& [what, text] : texts) digests[what] = Sha256Hex(text).substr(0, kDigits);
  return digests;
}

}  // namespace linchpin
