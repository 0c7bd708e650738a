#include "quantize/options.h"

#include <algorithm>
#include <utility>

#include "quantize/spelling.h"

namespace linchpin {
namespace {

constexpr Spelling<ScaleRule> kScaleRules[] = {{ScaleRule::kImportance, "importance"},
                                               {ScaleRule::kSigned, "signed"},
                                               {ScaleRule::kMinMax, "minmax"},
                                               {ScaleRule::kMse, "mse"}};
constexpr Spelling<Preserve> kPreserves[] = {{Preserve::kTensor, "tensor"},
                                             {Preserve::kScale, "scale"},
                                             {Preserve::kLora, "lora"},
                                             {Preserve::kRestore, "restore"},
                                             {Preserve::kNone, "none"}};
constexpr Spelling<int64_t> kGroupSizes[] = {
    {0, "auto"}, {32, "32"}, {64, "64"}, {128, "128"}, {-1, "channel"}};

// The ways to preserve that only some formats have.
struct PreserveFormats {
  Preserve preserve;
  std::vector<Format> formats;
};

const std::vector<PreserveFormats>& PreserveTable() {
  static const auto& table = *new std::vector<PreserveFormats>{
      {Preserve::kScale, {Format::kCompressedTensors}},
      {Preserve::kLora, {Format::kCompressedTensors, Format::kGguf}},
      {Preserve::kRestore, {Format::kDense}}};
  return table;
}

absl::Status Apart(std::string_view option, std::string_view name, std::string_view why,
                   std::string_view remedy) {
  return Error(Reason::kOptionInvalid, option, fmt::format("'{}' {}", name, why), remedy);
}

std::string SchemesOf(Format format) {
  std::vector<std::string_view> names;
  for (const SchemeTraits& row : Schemes()) {
    const auto& formats = row.formats;
    if (std::find(formats.begin(), formats.end(), format) != formats.end()) {
      names.push_back(row.name);
    }
  }
  return fmt::format("use one of {}", fmt::join(names, ", "));
}

absl::Status CheckBlocks(const BlockOptions& blocks) {
  const auto wrong = [](std::string_view what, std::string_view bounds) {
    return Error(Reason::kOptionInvalid, what, "it is out of bounds",
                 fmt::format("give {}", bounds));
  };
  if (blocks.bits < 2 || blocks.bits > 8) return wrong("bits", "2 to 8");
  if (blocks.run < 1) return wrong("block-run", "1 element or more");
  if (blocks.tile < 0) return wrong("block-tile", "the side of a tile, or 0 for runs");
  if (!(blocks.z >= 0) || !(blocks.z <= 1e6F)) return wrong("z", "a number from 0, which is off");
  return absl::OkStatus();
}

absl::Status CheckOuter(const QuantizeOptions& options) {
  for (const auto& [option, bits] :
       {std::pair("embeddings", options.embeddings), std::pair("lm-head", options.lm_head)}) {
    if (bits == 0 || bits == 8) continue;
    return Error(Reason::kOptionInvalid, option, fmt::format("{} bits are not built", bits),
                 "give 8, or leave it out for as it is");
  }
  return absl::OkStatus();
}

absl::Status CheckPruning(const QuantizeOptions& options) {
  if (!(options.sparsity >= 0) || options.sparsity > 1) {
    return Error(Reason::kOptionInvalid, "sparsity", "it is no part of all weights",
                 "give a number from 0 to 1");
  }
  if (options.scheme == Scheme::kPruned || options.sparsity == kHalf) return absl::OkStatus();
  return Error(Reason::kOptionInvalid, "sparsity",
               fmt::format("is not for {}", NameOf(options.scheme)),
               "leave it out, or prune by magnitude");
}

}  // namespace

bool NeedsImportance(const QuantizeOptions& options) {
  return options.scale == ScaleRule::kImportance &&
         TraitsOf(SchemeIn(options.format, options.scheme)).codes != CodeKind::kNone;
}

absl::Status CheckOptions(const QuantizeOptions& options) {
  const SchemeTraits& scheme = TraitsOf(SchemeIn(options.format, options.scheme));
  const std::string_view group = GroupSizeName(options.group_size);
  if (group == "unknown") {
    return Apart("group-size", fmt::format("{}", options.group_size), "is not known",
                 "use one of auto, 32, 64, 128, channel");
  }
  if (std::find(scheme.formats.begin(), scheme.formats.end(), options.format) ==
      scheme.formats.end()) {
    return Apart("scheme", scheme.name,
                 fmt::format("cannot be stored as {}", NameOf(options.format)),
                 SchemesOf(options.format));
  }
  if (!scheme.groups && options.group_size > 0) {
    return Apart("group-size", group, fmt::format("is not for {}", scheme.name),
                 "use auto or channel: it has one scale per channel");
  }
  if (options.asymmetric && !scheme.asymmetric) {
    return Apart("scheme", scheme.name, "has no zero points", "leave asymmetric out");
  }
  if (options.asymmetric && options.scale == ScaleRule::kSigned) {
    return Apart("scale", "signed", "is for symmetric codes", "use importance, minmax or mse");
  }
  for (const auto& [preserve, formats] : PreserveTable()) {
    if (preserve != options.preserve ||
        std::find(formats.begin(), formats.end(), options.format) != formats.end()) {
      continue;
    }
    return Apart("preserve", NameOf(preserve), fmt::format("is not for {}", NameOf(options.format)),
                 "use tensor");
  }
  if (scheme.codes == CodeKind::kGgufBlocks && options.scale == ScaleRule::kSigned) {
    return Apart("scale", "signed", fmt::format("is not for {}", scheme.name),
                 "use importance, or minmax for the rounding of ggml");
  }
  if (options.equalize && !NeedsImportance(options)) {
    return Error(Reason::kOptionInvalid, "equalize",
                 "it goes by how much each input channel matters, which no scale asks for",
                 "use scale importance with a scheme that has scales, or leave it out");
  }
  RETURN_IF_ERROR(CheckBlocks(options.blocks));
  RETURN_IF_ERROR(CheckOuter(options));
  RETURN_IF_ERROR(CheckPruning(options));
  if (options.preserve == Preserve::kScale && (options.asymmetric || scheme.rounds_activations)) {
    return Apart("preserve", "scale",
                 options.asymmetric ? "is for symmetric codes"
                                    : "is not for a scheme that rounds activations, too",
                 "use tensor");
  }
  return absl::OkStatus();
}

ScaleRule ScaleWithoutImportance(const QuantizeOptions& options) {
  const SchemeTraits& scheme = TraitsOf(SchemeIn(options.format, options.scheme));
  const bool signed_codes = !options.asymmetric && scheme.codes != CodeKind::kGgufBlocks;
  return signed_codes ? ScaleRule::kSigned : ScaleRule::kMinMax;
}

std::string_view NameOf(ScaleRule rule) { return NameIn(kScaleRules, rule); }
std::string_view NameOf(Preserve preserve) { return NameIn(kPreserves, preserve); }
std::string_view GroupSizeName(int64_t group_size) { return NameIn(kGroupSizes, group_size); }

absl::StatusOr<ScaleRule> ParseScaleRule(std::string_view name) {
  return ParseIn(kScaleRules, "scale", name);
}
absl::StatusOr<Preserve> ParsePreserve(std::string_view name) {
  return ParseIn(kPreserves, "preserve", name);
}
absl::StatusOr<int64_t> ParseGroupSize(std::string_view text) {
  return ParseIn(kGroupSizes, "group-size", text);
}

std::vector<std::string_view> ScaleRuleNames() { return NamesIn(kScaleRules); }
std::vector<std::string_view> PreserveNames() { return NamesIn(kPreserves); }

}  // namespace linchpin
