#include "quantize/plan.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <set>
#include <utility>

#include "base/status.h"
#include "fmt/format.h"
#include "quantize/block_encoder.h"
#include "quantize/classification.h"
#include "quantize/equalization.h"
#include "quantize/gguf_plan.h"
#include "quantize/group_encoder.h"
#include "quantize/outer_layers.h"
#include "quantize/packed_tensors.h"

namespace linchpin {
namespace {

constexpr std::string_view kWeight = ".weight";
constexpr int64_t kPerChannel = -1;
constexpr std::string_view kSuperWeight = "super weight";

uint64_t BytesOf(const TensorInfo& info) { return static_cast<uint64_t>(*ByteSize(info)); }

bool DividesAll(int64_t group, const std::vector<PlanRow>& rows) {
  return std::all_of(rows.begin(), rows.end(), [group](const PlanRow& row) {
    return !row.quantized || row.source.info.shape[1] % group == 0;
  });
}

absl::StatusOr<int64_t> ResolveGroup(Scheme scheme, int64_t asked,
                                     const std::vector<PlanRow>& rows) {
  if (!TraitsOf(scheme).groups) return kPerChannel;
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

// The name under which the tensor of a super weight is stored.
absl::StatusOr<std::string> StoredName(const Checkpoint& checkpoint,
                                       const WeightPosition& position) {
  ASSIGN_OR_RETURN(const StoredTensor* tensor, checkpoint.Find(position.tensor));
  const std::vector<int64_t>& shape = tensor->info.shape;
  if (shape.size() != 2 || position.row < 0 || position.row >= shape[0] || position.column < 0 ||
      position.column >= shape[1]) {
    return Error(Reason::kTensorShapeInvalid, position.tensor,
                 fmt::format("a super weight at [{}, {}] is outside of {}", position.row,
                             position.column, ShapeText(shape)));
  }
  return tensor->info.name;
}

// Why the super weights of one row cannot be kept in their groups; empty if they can.
std::string ScaleObstacle(const PlanRow& row) {
  std::set<std::pair<int64_t, int64_t>> groups;
  for (const PinnedWeight& pinned : row.pinned) {
    const WeightPosition& at = pinned.position;
    if (PinnedScale(TraitsOf(row.scheme).bits, row.scale_dtype, pinned.value, pinned.value) == 0) {
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
  row.kept_because = kSuperWeight;
  row.pinned.clear();
}

// Leaves the super weights of one row out, to be put back from beside it.
void HoldOut(PlanRow& row, bool expert, Plan& plan) {
  if (expert && plan.options.format == Format::kGguf) {
    plan.notes.push_back(fmt::format(
        "{}: llama.cpp takes no adapter for an expert, so the experts of its layer are kept as "
        "they are",
        row.source.info.name));
    KeepWhole(row);
    return;
  }
  row.held_out = std::move(row.pinned);
  row.pinned.clear();
}

// Applies `preserve` to one row that holds super weights.
void PreserveIn(PlanRow& row, bool expert, Plan& plan) {
  const Preserve wanted = plan.options.preserve;
  if (wanted == Preserve::kLora || wanted == Preserve::kRestore) {
    HoldOut(row, expert, plan);
    return;
  }
  if (plan.options.format != Format::kCompressedTensors) {
    if (wanted == Preserve::kTensor) KeepWhole(row);
    row.pinned.clear();
    return;
  }
  const std::string obstacle = ScaleObstacle(row);
  const bool fits = obstacle.empty() && !row.asymmetric && !TraitsOf(row.scheme).rounds_activations;
  const Preserve preserve = wanted;
  if (preserve == Preserve::kNone) {
    row.pinned.clear();
  } else if (preserve == Preserve::kTensor && expert && fits) {
    plan.notes.push_back(
        fmt::format("{}: its super weight is kept exactly by its group's scale, as consumers take "
                    "the experts of a layer alike and all of them would have to stay as they are",
                    row.source.info.name));
  } else {
    if (preserve == Preserve::kScale && !obstacle.empty()) {
      plan.notes.push_back(fmt::format("{}: {}, so the whole tensor is kept as it is",
                                       row.source.info.name, obstacle));
    }
    if (preserve == Preserve::kTensor || !obstacle.empty()) KeepWhole(row);
  }
}

void PreserveSuperWeights(const Classification& classification, Plan& plan) {
  for (PlanRow& row : plan.rows) {
    if (!row.quantized || row.pinned.empty()) continue;
    PreserveIn(row, classification.LinearRole(row)->expert, plan);
  }
  classification.KeepFusedAlike(plan.rows);
}

// What not every consumer reads, found by loading it (tests/consumers).
void NoteExperts(const Classification& classification, Plan& plan) {
  const bool has_experts = std::any_of(plan.rows.begin(), plan.rows.end(), [&](const PlanRow& row) {
    const TensorRole* role = classification.LinearRole(row);
    return role != nullptr && role->expert;
  });
  if (!has_experts) return;
  if (plan.options.asymmetric) {
    plan.notes.emplace_back(
        "the experts stay as they are, since consumers read none with zero points; transformers 5 "
        "does not load such a mixture: for it, leave asymmetric out");
  } else if (TraitsOf(plan.options.scheme).codes == CodeKind::kInt8) {
    plan.notes.emplace_back(
        "transformers 5 does not load experts in int8: for it, choose fp8 or w8a16");
  }
}

// Where a scale comes from, now that it is known which layers tokens reached.
void ChooseRules(const Importance* importance, Plan& plan) {
  int missed = 0;
  const ScaleRule fall_back = ScaleWithoutImportance(plan.options);
  for (PlanRow& row : plan.rows) {
    row.scale = plan.options.scale;
    if (!row.quantized || row.scale != ScaleRule::kImportance || importance == nullptr) continue;
    const InputStatistics* statistics = FindImportance(*importance, row.source.info.name);
    if (statistics != nullptr &&
        std::cmp_equal(statistics->mean_squares.size(), row.source.info.shape[1])) {
      continue;
    }
    row.scale = fall_back;
    ++missed;
  }
  if (missed == 0) return;
  plan.notes.push_back(
      fmt::format("{} weights have {} scales: no token of the prompt reached them, so that nothing "
                  "is known of their input channels",
                  missed, NameOf(fall_back)));
}

// Floats and Q8_0 are rounded in one way only, whatever is known and asked for.
void NameTheOnlyRule(Plan& plan) {
  for (PlanRow& row : plan.rows) {
    const SchemeTraits& scheme = TraitsOf(row.scheme);
    if (!row.quantized || scheme.codes != CodeKind::kGgufBlocks) continue;
    if (!WeighsErrors(*FindGgufBlockType(scheme.gguf_type))) row.scale = ScaleRule::kMinMax;
  }
}

// A linear layer that a consumer would take for quantized unless it is ignored.
bool IsKeptLinear(const PlanRow& row) {
  const TensorInfo& info = row.source.info;
  return !row.quantized && info.shape.size() == 2 && info.name.ends_with(kWeight) &&
         row.kept_because != "embedding" && row.kept_because != "positions";
}

std::vector<std::string> IgnoredModules(const std::string& output_head, const Plan& plan) {
  // transformers calls it lm_head where a family's checkpoints do not.
  std::set<std::string> modules;
  const auto is_head = [](const OuterLayer& layer) { return !layer.looked_up; };
  if (std::none_of(plan.outer.begin(), plan.outer.end(), is_head)) {
    modules = {"lm_head", output_head};
  }
  for (const PlanRow& row : plan.rows) {
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

// The first linear layer's reason stands for all.
absl::Status CheckAnyQuantized(const Checkpoint& checkpoint, const Classification& classification,
                               const std::vector<PlanRow>& rows) {
  std::string why = "it has none";
  for (const PlanRow& row : rows) {
    if (row.quantized) return absl::OkStatus();
    if (classification.LinearRole(row) == nullptr || why != "it has none") continue;
    why = fmt::format("{}: {}", row.source.info.name, row.kept_because);
  }
  return Error(Reason::kFeatureUnsupported, checkpoint.path(),
               fmt::format("no linear layer of its blocks can be quantized ({})", why),
               "its super weights can be found with detect");
}

absl::Status AssignSuperWeights(const Checkpoint& checkpoint, Plan& plan) {
  for (const PinnedWeight& pinned : plan.super_weights) {
    ASSIGN_OR_RETURN(const std::string name, StoredName(checkpoint, pinned.position));
    for (PlanRow& row : plan.rows) {
      if (row.quantized && row.source.info.name == name) row.pinned.push_back(pinned);
    }
  }
  return absl::OkStatus();
}

// Of weights that are not stored in one: what most of the others have, else BF16.
DType ModelDtype(const Checkpoint& checkpoint) {
  std::map<DType, uint64_t> bytes;
  for (const StoredTensor& tensor : checkpoint.tensors()) {
    const bool coded = tensor.scales || (tensor.encoding && !tensor.encoding->type->dtype);
    const DType plain =
        tensor.encoding ? tensor.encoding->type->dtype.value_or(DType::kBF16) : tensor.info.dtype;
    if (coded || IsFloatWeight(plain)) bytes[coded ? DType::kBF16 : plain] += StoredSize(tensor);
  }
  const auto most = std::max_element(
      bytes.begin(), bytes.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  return most == bytes.end() ? DType::kBF16 : most->first;
}

// A weight that is stored otherwise gets the model's dtype; a super weight's
// keeps every bit of what it is read as.
void ChooseOutputs(PlanRow& row, const Plan& plan) {
  const StoredTensor& source = row.source;
  row.dtype = source.info.dtype;
  if (source.scales || source.encoding) {
    row.dtype = row.kept_because == kSuperWeight ? DType::kF32 : plan.dtype;
  }
  row.scale_dtype = row.dtype;
  const BlockOptions& blocks = plan.options.blocks;
  if (row.scheme == Scheme::kPruned) row.group_size = 0;  // the whole tensor
  if (row.scheme == Scheme::kPruned2Of4) row.group_size = TraitsOf(row.scheme).run;
  if (row.scheme == Scheme::kBlocks) {
    row.group_size = blocks.tile > 0 ? blocks.tile * blocks.tile : blocks.run;
  }
  if (!row.quantized) row.group_size = 0;
  const bool packed = row.quantized && plan.options.format == Format::kCompressedTensors;
  row.outputs = packed ? PackedTensors(row)
                       : std::vector<TensorInfo>{{source.info.name, row.dtype, source.info.shape}};
}

template <typename Rows, typename Bytes>
uint64_t SumOf(const Rows& rows, Bytes bytes) {
  return std::accumulate(rows.begin(), rows.end(), uint64_t{0},
                         [&](uint64_t sum, const auto& row) { return sum + bytes(row); });
}

}  // namespace

DType PlanRow::read_dtype() const {
  return source.scales || source.encoding ? DType::kF32 : source.info.dtype;
}
uint64_t PlanRow::bytes_in() const { return StoredSize(source); }
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
                              absl::Span<const PinnedWeight> super_weights,
                              const Importance* importance, const GgufTemplate* pattern) {
  RETURN_IF_ERROR(CheckOptions(options));
  ASSIGN_OR_RETURN(const LinearLayers layers, LinearLayersOf(checkpoint));
  RETURN_IF_ERROR(CheckPatterns(checkpoint, options));
  Plan plan;
  plan.options = options;
  plan.options.scheme = SchemeIn(options.format, options.scheme);
  if (!layers.note.empty()) plan.notes.push_back(layers.note);
  const Classification classification(checkpoint, layers.roles, plan.options);
  plan.rows = classification.Rows();
  RETURN_IF_ERROR(CheckAnyQuantized(checkpoint, classification, plan.rows));
  ASSIGN_OR_RETURN(plan.group_size,
                   ResolveGroup(plan.options.scheme, options.group_size, plan.rows));
  for (PlanRow& row : plan.rows) {
    if (!row.quantized) continue;
    row.group_size = plan.group_size == kPerChannel ? row.source.info.shape[1] : plan.group_size;
  }
  plan.super_weights.assign(super_weights.begin(), super_weights.end());
  RETURN_IF_ERROR(AssignSuperWeights(checkpoint, plan));
  PreserveSuperWeights(classification, plan);
  ChooseRules(importance, plan);
  if (options.equalize) PlanEqualization(layers.normed, importance, plan);
  NoteExperts(classification, plan);
  plan.dtype = ModelDtype(checkpoint);
  RETURN_IF_ERROR(QuantizeOuterLayers(checkpoint, layers.outer, plan));
  for (PlanRow& row : plan.rows) ChooseOutputs(row, plan);
  if (options.format == Format::kGguf) {
    RETURN_IF_ERROR(FollowGguf(checkpoint, layers.outer && layers.outer->tied, pattern, plan));
  }
  NameTheOnlyRule(plan);
  RETURN_IF_ERROR(CheckNames(plan.rows));
  plan.ignored_modules = IgnoredModules(layers.output_head, plan);
  return plan;
}

}  // namespace linchpin
