#include "checkpoint/gguf_file.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/status.h"
#include "fmt/format.h"
#include "format/json.h"
#include "tensor/tensor_info.h"

namespace linchpin {
namespace {

constexpr uint64_t kFirstRead = uint64_t{1} << 18;
constexpr int64_t kMaxParts = 1000;
constexpr size_t kMaxFactors = size_t{1} << 16;

absl::StatusOr<std::vector<float>> ReadVector(const ReadableFile& file, std::string_view path,
                                              const GgufTensor& tensor) {
  if (tensor.type->dtype != DType::kF32 || tensor.shape.size() != 1 ||
      std::cmp_greater(tensor.shape[0], kMaxFactors)) {
    return Error(Reason::kTensorShapeInvalid, fmt::format("{}: tensor {}", path, tensor.name),
                 fmt::format("{} {} is not a short vector of F32", tensor.type->name,
                             ShapeText(tensor.shape)),
                 kMalformedRemedy);
  }
  std::vector<float> values(static_cast<size_t>(tensor.shape[0]));
  RETURN_IF_ERROR(file.ReadAt(
      tensor.begin,
      absl::MakeSpan(reinterpret_cast<std::byte*>(values.data()), values.size() * sizeof(float))));
  return values;
}

}  // namespace

absl::StatusOr<GgufFile> ReadGgufFile(const ReadableFile& file, std::string_view path) {
  GgufFile result;
  result.path = path;
  const uint64_t most = std::min(file.size(), kMaxGgufHeaderBytes);
  for (uint64_t size = std::min(most, kFirstRead);; size = std::min(most, 4 * size)) {
    const size_t known = result.text.size();
    result.text.resize(size);
    RETURN_IF_ERROR(file.ReadAt(
        known,
        absl::MakeSpan(reinterpret_cast<std::byte*>(result.text.data()) + known, size - known)));
    ASSIGN_OR_RETURN(std::optional<GgufHeader> header,
                     ParseGgufHeader(path, {result.text.data(), size}, file.size()));
    if (header) {
      result.header = *std::move(header);
      return result;
    }
    if (size == most) return Error(Reason::kInternal, path, "its header has no end");
  }
}

absl::StatusOr<std::vector<std::string>> GgufFileNames(const GgufFields& fields,
                                                       const std::string& name) {
  ASSIGN_OR_RETURN(const auto count, fields.Integer("split.count", kMaxParts));
  if (count.value_or(0) <= 1) return std::vector<std::string>{name};
  const std::string first = fmt::format("-00001-of-{:05}.gguf", *count);
  if (!name.ends_with(first)) {
    return Error(Reason::kIndexInvalid, fields.file(),
                 fmt::format("one of {} files of a split model, and not the first", *count),
                 fmt::format("give the file whose name ends in {}", first));
  }
  const std::string stem = name.substr(0, name.size() - first.size());
  std::vector<std::string> names;
  for (int64_t part = 1; part <= *count; ++part) {
    names.push_back(fmt::format("{}-{:05}-of-{:05}.gguf", stem, part, *count));
  }
  return names;
}

absl::Status ReadRopeFactors(const ReadableFile& file, std::string_view path,
                             const GgufHeader& header, GgufRopeFactors& factors) {
  const std::pair<std::string_view, std::vector<float>*> places[] = {
      {"rope_freqs.weight", &factors.always},
      {"rope_factors_long.weight", &factors.long_context},
      {"rope_factors_short.weight", &factors.short_context}};
  for (const GgufTensor& tensor : header.tensors) {
    for (const auto& [name, place] : places) {
      if (tensor.name != name) continue;
      ASSIGN_OR_RETURN(*place, ReadVector(file, path, tensor));
    }
  }
  return absl::OkStatus();
}

}  // namespace linchpin
