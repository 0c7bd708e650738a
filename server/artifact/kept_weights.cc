#include "artifact/kept_weights.h"

#include <map>
#include <string>
#include <utility>

#include "artifact/lora_adapter.h"
#include "base/status.h"
#include "tensor/float16.h"

namespace linchpin {
namespace {

// How the plan keeps a super weight.
std::string KeptHow(const Plan& plan, const PlanRow& row) {
  if (!row.quantized) return "tensor";
  if (!row.held_out.empty()) return std::string(NameOf(plan.options.preserve));
  return row.pinned.empty() ? "none" : "scale";
}

// The value in the blocks of a GGUF output.
absl::StatusOr<float> ReadBackBlock(const PlanRow& row, const TensorSlot& slot,
                                    const WeightPosition& at) {
  const GgufBlockType& type = *row.gguf->type;
  const auto row_bytes = static_cast<uint64_t>(row.outputs[0].shape[1]);
  const int64_t block = at.column / type.elements;
  std::vector<std::byte> bytes(static_cast<size_t>(type.bytes));
  RETURN_IF_ERROR(slot.Read(
      static_cast<uint64_t>(at.row) * row_bytes + static_cast<uint64_t>(block * type.bytes),
      absl::MakeSpan(bytes)));
  std::vector<float> values(static_cast<size_t>(type.elements));
  if (type.dtype) {
    WidenToFloat(*type.dtype, bytes.data(), 1, values.data());
  } else {
    type.decode(bytes.data(), 1, values.data());
  }
  return values[static_cast<size_t>(at.column % type.elements)];
}

// By row of the plan: what an adapter calls its tensor.
std::vector<std::string> AdapterNames(const Plan& plan, const GgufTemplate* pattern) {
  std::vector<std::string> names;
  if (pattern == nullptr) {
    for (const PlanRow& row : plan.rows) names.push_back(row.source.info.name);
    return names;
  }
  for (const GgufSlot& slot : pattern->slots())
    names.insert(names.end(), slot.parts.size(), slot.tensor.name);
  return names;
}

std::string ArchitectureOf(const GgufTemplate& pattern) {
  for (const GgufKeyValue& pair : pattern.pairs()) {
    // u32 type, u64 length, the text
    if (pair.key == "general.architecture") return std::string(pair.value.substr(12));
  }
  return "";
}

}  // namespace

absl::StatusOr<std::vector<KeptWeight>> ReadBackAll(const Checkpoint& checkpoint, const Plan& plan,
                                                    const ShardFiles& shards) {
  std::map<std::string, StoredBytes> outputs;
  std::map<std::string, size_t> rows;
  for (size_t i = 0; i < plan.rows.size(); ++i) {
    rows[plan.rows[i].source.info.name] = i;
    for (size_t j = 0; j < plan.rows[i].outputs.size(); ++j) {
      const TensorSlot& slot = shards.SlotsOf(i)[j];
      const TensorInfo& info = plan.rows[i].outputs[j];
      outputs[info.name] = {
          info, [slot](uint64_t at, absl::Span<std::byte> out) { return slot.Read(at, out); }};
    }
  }
  std::vector<KeptWeight> kept;
  for (const PinnedWeight& weight : plan.super_weights) {
    ASSIGN_OR_RETURN(const StoredTensor* source, checkpoint.Find(weight.position.tensor));
    WeightPosition stored = weight.position;
    stored.tensor = source->info.name;  // it may have been named by an alias
    const size_t index = rows.at(stored.tensor);
    const PlanRow& row = plan.rows[index];
    ASSIGN_OR_RETURN(const float value, row.gguf
                                            ? ReadBackBlock(row, shards.SlotsOf(index)[0], stored)
                                            : ReadBack(outputs, stored));
    kept.push_back({weight, value, KeptHow(plan, row), value == weight.value});
  }
  return kept;
}

absl::Status WriteAdapter(const Plan& plan, const GgufTemplate* pattern,
                          std::vector<KeptWeight>& kept, SideFiles& side) {
  const std::vector<std::string> names = AdapterNames(plan, pattern);
  std::vector<AdaptedWeight> weights;
  for (size_t i = 0; i < plan.rows.size(); ++i) {
    const PlanRow& row = plan.rows[i];
    if (row.held_out.empty()) continue;
    AdaptedWeight weight{names[i], row.source.info.shape[0], row.source.info.shape[1], {}};
    for (KeptWeight& each : kept) {
      const WeightPosition& at = each.weight.position;
      if (at.tensor != row.held_out.front().position.tensor) continue;
      const float missing = each.weight.value - each.stored_value;
      weight.misses.push_back({at.row, at.column, missing});
      each.stored_value += missing;
      each.exact = each.stored_value == each.weight.value;
    }
    weights.push_back(std::move(weight));
  }
  if (weights.empty()) return absl::OkStatus();
  std::vector<AdapterFile> files;
  if (pattern == nullptr) {
    files = PeftAdapter(weights);
  } else {
    ASSIGN_OR_RETURN(AdapterFile file, GgufAdapter(ArchitectureOf(*pattern), weights));
    files.push_back(std::move(file));
  }
  for (const AdapterFile& file : files) RETURN_IF_ERROR(side.Write(file.name, file.bytes));
  return absl::OkStatus();
}

}  // namespace linchpin
