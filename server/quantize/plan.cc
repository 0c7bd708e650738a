#include "quantize/plan.h"

#include <algorithm>
#include <numeric>
#include <set>
#include <utility>

#include "base/status.h"
#include "fmt/format.h"
#include "quantize/group_encoder.h"
#include "tensor/float16.h"

namespace linchpin {
namespace {

constexpr std::string_view kWeight = ".weight";
constexpr int64_t kCodesPerWord = 8;
constexpr int64_t kPerChannel = -1;

uint64_t BytesOf(const TensorInfo& info) { return static_cast<uint64_t>(*ByteSize(info)); }

bool Contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

// `[*.]layers.N.*_proj.weight`
bool IsBlockProjection(std::string_view name) {
  if (!name.ends_with("_proj.weight")) return false;
  constexpr std::string_view kLayers = "layers.";
  size_t at = name.find(kLayers);
  if (at == std::string_view::npos || (at > 0 && name[at - 1] != '.')) return false;
  const std::string_view rest = name.substr(at + kLayers.size());
  const size_t digits = rest.find_first_not_of("0123456789");
  return digits != 0 && digits != std::string_view::npos && rest[digits] == '.';
}

// Towers and projectors beside the text model of a multimodal one.
bool IsOfAnotherModality(std::string_view name) {
  constexpr std::string_view kParts[] = {"vision", "visual", "audio", "multi_modal"};
  return std::any_of(std::begin(kParts), std::end(kParts),
                     [name](std::string_view part) { return Contains(name, part); });
}

// Names under which the source's metadata offers a tensor a second time.
std::set<std::string> SharedTensors(const Checkpoint& checkpoint) {
  std::set<std::string> shared;
  for (const Shard& shard : checkpoint.shards()) {
    for (const auto& [alias, stored] : shard.header.metadata) shared.insert(stored);
  }
  return shared;
}

// Empty for a tensor that can be quantized.
std::string KeptBecause(const TensorInfo& info, const std::set<std::string>& shared) {
  const std::string_view name = info.name;
  if (Contains(name, "embed")) return "embedding";
  if (name.starts_with("lm_head.")) return "output head";
  if (name.ends_with(".bias")) return "bias";
  if (IsOfAnotherModality(name)) return "not of the text model";
  if (Contains(name, "norm")) return "norm";
  if (!IsBlockProjection(name) || info.shape.size() != 2) return "not a linear layer";
  if (!IsFloatWeight(info.dtype)) return fmt::format("stored as {}", NameOf(info.dtype));
  if (shared.contains(info.name)) return "shared under another name";
  if (*ElementCount(info.shape) == 0) return "no elements";
  if (info.shape[1] % kCodesPerWord != 0) return "row length not a multiple of 8";
  return "";
}

bool DividesAll(int64_t group, const std::vector<PlanRow>& rows) {
  return std::all_of(rows.begin(), rows.end(), [group](const PlanRow& row) {
    return !row.quantized || row.source.info.shape[1] % group == 0;
  });
}

absl::StatusOr<int64_t> ResolveGroup(int64_t asked, const std::vector<PlanRow>& rows) {
  if (GroupSizeName(asked) == "unknown") {
    return Error(Reason::kOptionInvalid, "group-size", fmt::format("{} is not known", asked),
                 "use one of auto, 32, 64, 128, channel");
  }
  if (asked == 0) {
    for (const int64_t group : {128, 64, 32}) {
      if (DividesAll(group, rows)) return group;
    }
    return kPerChannel;
  }
  if (asked == kPerChannel) return kPerChannel;
  for (const PlanRow& row : rows) {
    const TensorInfo& info = row.source.info;
    if (!row.quantized || info.shape[1] % asked == 0) continue;
    return Error(Reason::kOptionInvalid, info.name,
                 fmt::format("group size {} does not divide its rows of {}", asked, info.shape[1]),
                 "use group size auto");
  }
  return asked;
}

absl::StatusOr<size_t> FindRow(const Checkpoint& checkpoint, const WeightPosition& position) {
  ASSIGN_OR_RETURN(const StoredTensor* tensor, checkpoint.Find(position.tensor));
  const std::vector<int64_t>& shape = tensor->info.shape;
  if (shape.size() != 2 || position.row < 0 || position.row >= shape[0] || position.column < 0 ||
      position.column >= shape[1]) {
    return Error(Reason::kTensorShapeInvalid, position.tensor,
                 fmt::format("a super weight at [{}, {}] is outside of {}", position.row,
                             position.column, ShapeText(shape)));
  }
  return static_cast<size_t>(tensor - checkpoint.tensors().data());
}

// Why the super weights of one row cannot be kept in their groups; empty if they can.
std::string ScaleObstacle(const PlanRow& row) {
  std::set<std::pair<int64_t, int64_t>> groups;
  for (const PinnedWeight& pinned : row.pinned) {
    const WeightPosition& at = pinned.position;
    if (PinnedScale(row.source.info.dtype, pinned.value, pinned.value) == 0) {
      return fmt::format("no scale puts the value at [{}, {}] exactly on a code", at.row,
                         at.column);
    }
    if (!groups.emplace(at.row, at.column / row.group_size).second) {
      return fmt::format("two super weights share the group of [{}, {}]", at.row, at.column);
    }
  }
  return "";
}

void KeepWhole(PlanRow& row) {
  row.quantized = false;
  row.kept_because = "super weight";
  row.pinned.clear();
}

// Applies `preserve` to the rows that hold super weights.
void PreserveSuperWeights(Plan& plan) {
  for (PlanRow& row : plan.rows) {
    if (!row.quantized || row.pinned.empty()) continue;
    if (plan.options.preserve == Preserve::kNone) {
      row.pinned.clear();
    } else if (plan.options.preserve == Preserve::kTensor) {
      KeepWhole(row);
    } else if (const std::string obstacle = ScaleObstacle(row); !obstacle.empty()) {
      plan.notes.push_back(fmt::format("{}: {}, so the whole tensor is kept as it is",
                                       row.source.info.name, obstacle));
      KeepWhole(row);
    }
  }
}

std::vector<TensorInfo> OutputsOf(const PlanRow& row) {
  const TensorInfo& in = row.source.info;
  if (!row.quantized) return {in};
  const int64_t n = in.shape[0];
  const int64_t k = in.shape[1];
  return {{in.name + "_packed", DType::kI32, {n, k / kCodesPerWord}},
          {in.name + "_scale", in.dtype, {n, k / row.group_size}},
          {in.name + "_shape", DType::kI64, {2}}};
}

// A linear layer that a consumer would take for quantized unless it is ignored.
bool IsKeptLinear(const PlanRow& row) {
  const TensorInfo& info = row.source.info;
  return !row.quantized && info.shape.size() == 2 && info.name.ends_with(kWeight) &&
         row.kept_because != "embedding";
}

std::vector<std::string> IgnoredModules(const std::vector<PlanRow>& rows) {
  std::set<std::string> modules = {"lm_head"};
  for (const PlanRow& row : rows) {
    if (IsKeptLinear(row)) modules.insert(ModuleOf(row.source.info.name));
  }
  return {modules.begin(), modules.end()};
}

absl::Status CheckNames(const std::vector<PlanRow>& rows) {
  std::set<std::string_view> names;
  for (const PlanRow& row : rows) {
    for (const TensorInfo& output : row.outputs) {
      if (names.insert(output.name).second) continue;
      return Error(Reason::kTensorShapeInvalid, output.name,
                   "the source has a tensor of this name already, is it compressed?",
                   "give the uncompressed checkpoint");
    }
  }
  return absl::OkStatus();
}

std::vector<PlanRow> ClassifiedRows(const Checkpoint& checkpoint) {
  const std::set<std::string> shared = SharedTensors(checkpoint);
  std::vector<PlanRow> rows;
  rows.reserve(checkpoint.tensors().size());
  for (const StoredTensor& tensor : checkpoint.tensors()) {
    PlanRow& row = rows.emplace_back();
    row.source = tensor;
    row.kept_because = KeptBecause(tensor.info, shared);
    row.quantized = row.kept_because.empty();
  }
  return rows;
}

template <typename Rows, typename Bytes>
uint64_t SumOf(const Rows& rows, Bytes bytes) {
  return std::accumulate(rows.begin(), rows.end(), uint64_t{0},
                         [&](uint64_t sum, const auto& row) { return sum + bytes(row); });
}

}  // namespace

uint64_t PlanRow::bytes_in() const { return BytesOf(source.info); }
uint64_t PlanRow::bytes_out() const { return SumOf(outputs, BytesOf); }

uint64_t Plan::bytes_in() const {
  return SumOf(rows, [](const PlanRow& row) { return row.bytes_in(); });
}
uint64_t Plan::bytes_out() const {
  return SumOf(rows, [](const PlanRow& row) { return row.bytes_out(); });
}

std::string ModuleOf(std::string_view tensor) {
  if (tensor.ends_with(kWeight)) tensor.remove_suffix(kWeight.size());
  return std::string(tensor);
}

absl::StatusOr<Plan> MakePlan(const Checkpoint& checkpoint, const QuantizeOptions& options,
                              absl::Span<const PinnedWeight> super_weights) {
  if (checkpoint.is_gguf()) {
    return Error(Reason::kFeatureUnsupported, checkpoint.path(),
                 "compressing a GGUF file is not built, detecting in it is",
                 "give the safetensors checkpoint");
  }
  const auto& tensors = checkpoint.tensors();
  if (std::any_of(tensors.begin(), tensors.end(),
                  [](const StoredTensor& tensor) { return tensor.scales.has_value(); })) {
    return Error(Reason::kFeatureUnsupported, checkpoint.path(),
                 "compressing 8-bit weights is not built, detecting in them is",
                 "give the checkpoint that they were made from");
  }
  Plan plan;
  plan.options = options;
  plan.rows = ClassifiedRows(checkpoint);
  if (std::none_of(plan.rows.begin(), plan.rows.end(),
                   [](const PlanRow& row) { return row.quantized; })) {
    return Error(Reason::kFeatureUnsupported, checkpoint.path(),
                 "none of its tensors is a linear layer that can be quantized",
                 "its super weights can be found with detect");
  }
  ASSIGN_OR_RETURN(plan.group_size, ResolveGroup(options.group_size, plan.rows));
  plan.super_weights.assign(super_weights.begin(), super_weights.end());
  for (const PinnedWeight& pinned : super_weights) {
    ASSIGN_OR_RETURN(const size_t index, FindRow(checkpoint, pinned.position));
    if (plan.rows[index].quantized) plan.rows[index].pinned.push_back(pinned);
  }
  for (PlanRow& row : plan.rows) {
    if (!row.quantized) continue;
    row.group_size = plan.group_size == kPerChannel ? row.source.info.shape[1] : plan.group_size;
  }
  PreserveSuperWeights(plan);
  for (PlanRow& row : plan.rows) {
    if (!row.quantized) row.group_size = 0;
    row.outputs = OutputsOf(row);
  }
  RETURN_IF_ERROR(CheckNames(plan.rows));
  plan.ignored_modules = IgnoredModules(plan.rows);
  return plan;
}

}  // namespace linchpin
