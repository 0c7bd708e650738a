#include "quantize/scheme.h"

#include "quantize/spelling.h"

namespace linchpin {
namespace {

constexpr Spelling<Format> kFormats[] = {{Format::kCompressedTensors, "compressed-tensors"},
                                         {Format::kGguf, "gguf"},
                                         {Format::kDense, "dense"}};

constexpr Format kInCompressedTensors[] = {Format::kCompressedTensors, Format::kDense};
constexpr Format kInGguf[] = {Format::kGguf, Format::kDense};
constexpr Format kInDense[] = {Format::kDense};

// What the encoder of groups takes at a time.
constexpr int64_t kOctet = 8;

constexpr SchemeTraits Blocks(Scheme scheme, std::string_view name, int bits, uint32_t type,
                              Scheme fall_back) {
  return {.scheme = scheme,
          .name = name,
          .formats = kInGguf,
          .codes = CodeKind::kGgufBlocks,
          .bits = bits,
          .gguf_type = type,
          .fall_back = fall_back,
          .outer = Scheme::kQ8_0};
}

// In the order of the enum.  What compressed-tensors holds is what vLLM and
// transformers read: 8-bit codes that are packed have no zero points.
constexpr SchemeTraits kSchemes[] = {
    {.scheme = Scheme::kW4A16,
     .name = "w4a16",
     .formats = kInCompressedTensors,
     .codes = CodeKind::kPackedInt,
     .bits = 4,
     .groups = true,
     .asymmetric = true,
     .compressed_format = "pack-quantized",
     .run = kOctet},
    {.scheme = Scheme::kW8A16,
     .name = "w8a16",
     .formats = kInCompressedTensors,
     .codes = CodeKind::kPackedInt,
     .bits = 8,
     .groups = true,
     .compressed_format = "pack-quantized",
     .run = kOctet},
    {.scheme = Scheme::kW8A8,
     .name = "w8a8",
     .formats = kInCompressedTensors,
     .codes = CodeKind::kInt8,
     .bits = 8,
     .rounds_activations = true,
     .compressed_format = "int-quantized",
     .run = kOctet,
     .outer = Scheme::kW8A8},
    {.scheme = Scheme::kFp8,
     .name = "fp8",
     .formats = kInCompressedTensors,
     .codes = CodeKind::kFloat8,
     .bits = 8,
     .rounds_activations = true,
     .compressed_format = "float-quantized",
     .run = kOctet,
     .outer = Scheme::kFp8},
    Blocks(Scheme::kQ4_0, "q4_0", 4, 2, Scheme::kF16),
    Blocks(Scheme::kQ4_1, "q4_1", 4, 3, Scheme::kF16),
    Blocks(Scheme::kQ5_0, "q5_0", 5, 6, Scheme::kF16),
    Blocks(Scheme::kQ5_1, "q5_1", 5, 7, Scheme::kF16),
    Blocks(Scheme::kQ8_0, "q8_0", 8, 8, Scheme::kF16),
    Blocks(Scheme::kQ4_K, "q4_k", 4, 12, Scheme::kQ5_0),
    Blocks(Scheme::kQ5_K, "q5_k", 5, 13, Scheme::kQ5_1),
    Blocks(Scheme::kQ6_K, "q6_k", 6, 14, Scheme::kQ8_0),
    Blocks(Scheme::kF16, "f16", 16, 1, Scheme::kF16),
    Blocks(Scheme::kBF16, "bf16", 16, 30, Scheme::kBF16),
    {.scheme = Scheme::kBlocks, .name = "blocks", .formats = kInDense, .codes = CodeKind::kNone},
    {.scheme = Scheme::kPruned, .name = "pruned", .formats = kInDense, .codes = CodeKind::kNone},
    {.scheme = Scheme::kPruned2Of4,
     .name = "pruned_2_4",
     .formats = kInDense,
     .codes = CodeKind::kNone,
     .run = 4},
};

}  // namespace

absl::Span<const SchemeTraits> Schemes() { return kSchemes; }

const SchemeTraits& TraitsOf(Scheme scheme) {
  for (const SchemeTraits& row : kSchemes) {
    if (row.scheme == scheme) return row;
  }
  return kSchemes[0];
}

Scheme SchemeIn(Format format, Scheme scheme) {
  if (format != Format::kGguf) return scheme;
  if (scheme == Scheme::kW4A16) return Scheme::kQ4_K;
  return scheme == Scheme::kW8A16 ? Scheme::kQ8_0 : scheme;
}

std::string_view NameOf(Scheme scheme) { return TraitsOf(scheme).name; }
std::string_view NameOf(Format format) { return NameIn(kFormats, format); }

std::vector<std::string_view> SchemeNames() {
  std::vector<std::string_view> names;
  for (const SchemeTraits& row : kSchemes) names.push_back(row.name);
  return names;
}
std::vector<std::string_view> FormatNames() { return NamesIn(kFormats); }

absl::StatusOr<Scheme> ParseScheme(std::string_view name) {
  for (const SchemeTraits& row : kSchemes) {
    if (row.name == name) return row.scheme;
  }
  return Error(Reason::kOptionInvalid, "scheme", fmt::format("'{}' is not known", name),
               fmt::format("use one of {}", fmt::join(SchemeNames(), ", ")));
}
absl::StatusOr<Format> ParseFormat(std::string_view name) {
  return ParseIn(kFormats, "format", name);
}

}  // namespace linchpin
