#include "checkpoint/gguf_tensors.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <string>
#include <utility>

#include "base/status.h"
#include "fmt/format.h"

namespace linchpin {
namespace {

constexpr int64_t kMaxLayers = int64_t{1} << 14;
constexpr int64_t kMaxHeads = int64_t{1} << 16;
constexpr int64_t kMaxExperts = int64_t{1} << 12;
constexpr size_t kMaxTensors = 500'000;  // experts counted one by one

// "blk.7.attn_q.weight" or "blk.7.ffn_up.3.weight" in its parts.
struct NameParts {
  std::optional<int64_t> layer;
  std::string_view base;  // "attn_q"
  std::optional<int64_t> expert;
  std::string_view suffix;  // "weight"
};

// A number in its one spelling, so that no two names mean the same tensor.
std::optional<int64_t> Number(std::string_view text) {
  int64_t number = 0;
  std::from_chars(text.data(), text.data() + text.size(), number);
  if (number < 0 || fmt::format("{}", number) != text) return std::nullopt;
  return number;
}

std::optional<NameParts> Split(std::string_view name) {
  NameParts parts;
  constexpr std::string_view kBlock = "blk.";
  if (name.starts_with(kBlock)) {
    name.remove_prefix(kBlock.size());
    parts.layer = Number(name.substr(0, name.find('.')));
    if (!parts.layer) return std::nullopt;
    name.remove_prefix(std::min(name.size(), name.find('.') + 1));
  }
  const size_t dot = name.rfind('.');
  if (dot == std::string_view::npos) return std::nullopt;
  parts.base = name.substr(0, dot);
  parts.suffix = name.substr(dot + 1);
  if (const size_t inner = parts.base.rfind('.'); inner != std::string_view::npos) {
    parts.expert = Number(parts.base.substr(inner + 1));
    if (!parts.expert) return std::nullopt;
    parts.base = parts.base.substr(0, inner);
  }
  return parts;
}

bool MayHaveBias(GgufBias bias, GgufTensorKind kind) {
  switch (bias) {
    case GgufBias::kNever:
      return false;
    case GgufBias::kQueryKeyValue:
      return kind <= GgufTensorKind::kValue;
    case GgufBias::kAttention:
      return kind <= GgufTensorKind::kAttentionOutput;
    case GgufBias::kAll:
      return kind <= GgufTensorKind::kMlp;
  }
  return false;
}

const GgufTensorName* FindIn(absl::Span<const GgufTensorName> names, std::string_view base) {
  for (const GgufTensorName& name : names) {
    if (name.gguf == base) return &name;
  }
  return nullptr;
}

class TensorMapping {
 public:
  TensorMapping(const GgufFields& fields, const GgufFamily& family)
      : fields_(fields), family_(family) {}

  absl::Status ReadCounts() {
    ASSIGN_OR_RETURN(layers_, Count("block_count", kMaxLayers));
    ASSIGN_OR_RETURN(heads_, Count("attention.head_count", kMaxHeads));
    ASSIGN_OR_RETURN(kv_heads_, Count("attention.head_count_kv", kMaxHeads));
    ASSIGN_OR_RETURN(experts_, Count("expert_count", kMaxExperts));
    if (kv_heads_ == 0) kv_heads_ = heads_;
    if (layers_ == 0) return fields_.Invalid(GgufKeyOf(family_, "block_count"), "is missing");
    return absl::OkStatus();
  }

  absl::Status Add(const GgufTensor& tensor) {
    const std::optional<NameParts> parts = Split(tensor.name);
    const GgufTensorName* name = parts ? FindName(*parts) : nullptr;
    if (name == nullptr) {
      return Fail(
          Reason::kFeatureUnsupported, tensor,
          fmt::format("a model of architecture \"{}\" has no such tensor", family_.architecture),
          "give the original checkpoint");
    }
    if (name->kind == GgufTensorKind::kConfig) return absl::OkStatus();
    if (name->kind == GgufTensorKind::kExperts) return AddExperts(tensor, *parts, *name);
    return AddOne(tensor, *parts, *name);
  }

  void StartFile(std::string_view path) {
    ++file_;
    path_ = path;
  }

  std::vector<StoredTensor> Take() { return std::move(tensors_); }

 private:
  absl::StatusOr<int64_t> Count(std::string_view key, int64_t high) const {
    ASSIGN_OR_RETURN(const auto count, fields_.Integer(GgufKeyOf(family_, key), high));
    return count.value_or(0);
  }

  absl::Status Fail(Reason reason, const GgufTensor& tensor, std::string_view why,
                    std::string_view remedy = "fetch the file again") const {
    return Error(reason, fmt::format("{}: tensor {}", path_, tensor.name), why, remedy);
  }

  // What the tensor is called in the family; null if it has none such.
  const GgufTensorName* FindName(const NameParts& parts) const {
    if (parts.suffix != "weight" && parts.suffix != "bias") return nullptr;
    const bool bias = parts.suffix == "bias";
    if (!parts.layer) {
      return bias || parts.expert ? nullptr : FindIn(GgufOuterTensors(), parts.base);
    }
    if (*parts.layer >= layers_) return nullptr;
    for (const auto& names : family_.tensors) {
      const GgufTensorName* name = FindIn(names, parts.base);
      if (name == nullptr) continue;
      const bool one_expert = name->kind == GgufTensorKind::kExpert;
      if (one_expert != parts.expert.has_value() || parts.expert.value_or(-1) >= experts_) {
        return nullptr;
      }
      return bias && !MayHaveBias(family_.bias, name->kind) ? nullptr : name;
    }
    return nullptr;
  }

  static std::string HfName(const NameParts& parts, std::string_view name) {
    if (!parts.layer) return fmt::format("{}.{}", name, parts.suffix);
    return fmt::format("model.layers.{}.{}.{}", *parts.layer, name, parts.suffix);
  }

  static std::string ExpertName(const GgufTensorName& name, int64_t expert) {
    return fmt::format(fmt::runtime(name.hf), expert);
  }

  // Heads whose rows are stored pair by pair; 0 for rows in their order.
  int64_t PairedHeads(GgufTensorKind kind) const {
    if (!family_.paired_rows) return 0;
    if (kind == GgufTensorKind::kQuery) return heads_;
    return kind == GgufTensorKind::kKey ? kv_heads_ : 0;
  }

  absl::Status AddOne(const GgufTensor& tensor, const NameParts& parts,
                      const GgufTensorName& name) {
    RowEncoding encoding{tensor.type, PairedHeads(name.kind),
                         name.kind == GgufTensorKind::kNorm ? family_.norm_added : 0};
    std::vector<int64_t> shape = tensor.shape;
    const bool vector = shape.size() == 1;
    const bool expect_vector = name.kind == GgufTensorKind::kNorm ||
                               name.kind == GgufTensorKind::kRow || parts.suffix == "bias";
    if (vector != expect_vector || shape.empty() || shape.size() > 2) {
      return Fail(Reason::kTensorShapeInvalid, tensor,
                  fmt::format("its shape is {}, not that of a {}", ShapeText(shape),
                              expect_vector ? "vector" : "matrix"));
    }
    if (encoding.heads > 0 && shape[0] % (2 * encoding.heads) != 0) {
      return Fail(Reason::kTensorShapeInvalid, tensor,
                  fmt::format("{} rows are not pairs of {} heads", shape[0], encoding.heads));
    }
    // Its elements lie apart; nobody quantizes a bias.
    if (encoding.heads > 0 && vector && !tensor.type->dtype) {
      return Fail(Reason::kDtypeUnsupported, tensor, fmt::format("a bias in {}", tensor.type->name),
                  "give the original checkpoint");
    }
    if (name.kind == GgufTensorKind::kRow) shape.insert(shape.begin(), 1);
    const std::string hf = ExpertName(name, parts.expert.value_or(0));
    return Append(tensor, HfName(parts, hf), std::move(shape), tensor.begin, encoding);
  }

  absl::Status AddExperts(const GgufTensor& tensor, const NameParts& parts,
                          const GgufTensorName& name) {
    if (tensor.shape.size() != 3 || tensor.shape[0] != experts_ || experts_ == 0) {
      return Fail(Reason::kTensorShapeInvalid, tensor,
                  fmt::format("its shape is {}, not that of {} matrices", ShapeText(tensor.shape),
                              experts_));
    }
    const uint64_t bytes = (tensor.end - tensor.begin) / static_cast<uint64_t>(experts_);
    for (int64_t expert = 0; expert < experts_; ++expert) {
      const std::string hf = ExpertName(name, expert);
      RETURN_IF_ERROR(Append(tensor, HfName(parts, hf), {tensor.shape[1], tensor.shape[2]},
                             tensor.begin + static_cast<uint64_t>(expert) * bytes, {tensor.type}));
    }
    return absl::OkStatus();
  }

  absl::Status Append(const GgufTensor& tensor, std::string name, std::vector<int64_t> shape,
                      uint64_t begin, const RowEncoding& encoding) {
    if (tensors_.size() == kMaxTensors) {
      return Fail(Reason::kHeaderInvalid, tensor, fmt::format("more than {} tensors", kMaxTensors));
    }
    // In its order, plain and unchanged, it needs no decoding.
    if (encoding.type->dtype && encoding.heads == 0 && encoding.added == 0) {
      tensors_.push_back(
          {{std::move(name), *encoding.type->dtype, std::move(shape)}, file_, begin});
      return absl::OkStatus();
    }
    if (encoding.type->dtype && !IsFloatWeight(*encoding.type->dtype)) {
      return Fail(Reason::kDtypeUnsupported, tensor,
                  fmt::format("{} cannot be read as numbers", encoding.type->name));
    }
    tensors_.push_back({{std::move(name), DType::kF32, std::move(shape)}, file_, begin, encoding});
    return absl::OkStatus();
  }

  const GgufFields& fields_;
  const GgufFamily& family_;
  int64_t layers_ = 0, heads_ = 0, kv_heads_ = 0, experts_ = 0;
  int file_ = -1;  // the one in hand
  std::string path_;
  std::vector<StoredTensor> tensors_;
};

}  // namespace

absl::StatusOr<std::vector<StoredTensor>> GgufTensors(const GgufFields& fields,
                                                      absl::Span<const GgufFile> files,
                                                      const GgufFamily& family) {
  TensorMapping mapping(fields, family);
  RETURN_IF_ERROR(mapping.ReadCounts());
  for (const GgufFile& file : files) {
    mapping.StartFile(file.path);
    for (const GgufTensor& tensor : file.header.tensors) RETURN_IF_ERROR(mapping.Add(tensor));
  }
  return mapping.Take();
}

}  // namespace linchpin
