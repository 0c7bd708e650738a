#include "quantize/scheme.h"

#include "quantize/spelling.h"

namespace linchpin {
namespace {

constexpr Spelling<Format> kFormats[] = {{Format::kCompressedTensors, "compressed-tensors"}};

constexpr Format kInCompressedTensors[] = {Format::kCompressedTensors};

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
     .compressed_format = "pack-quantized"},
    {.scheme = Scheme::kW8A16,
     .name = "w8a16",
     .formats = kInCompressedTensors,
     .codes = CodeKind::kPackedInt,
     .bits = 8,
     .groups = true,
     .compressed_format = "pack-quantized"},
    {.scheme = Scheme::kW8A8,
     .name = "w8a8",
     .formats = kInCompressedTensors,
     .codes = CodeKind::kInt8,
     .bits = 8,
     .rounds_activations = true,
     .compressed_format = "int-quantized"},
    {.scheme = Scheme::kFp8,
     .name = "fp8",
     .formats = kInCompressedTensors,
     .codes = CodeKind::kFloat8,
     .bits = 8,
     .rounds_activations = true,
     .compressed_format = "float-quantized"},
};

}  // namespace

absl::Span<const SchemeTraits> Schemes() { return kSchemes; }

const SchemeTraits& TraitsOf(Scheme scheme) {
  for (const SchemeTraits& row : kSchemes) {
    if (row.scheme == scheme) return row;
  }
  return kSchemes[0];
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
