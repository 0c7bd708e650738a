#include "quantize/classification.h"

#include <fnmatch.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <string_view>
#include <utility>

#include "base/status.h"
#include "fmt/format.h"
#include "format/gguf_blocks.h"
#include "quantize/packed_tensors.h"

namespace linchpin {
namespace {

// Towers and projectors beside the text model of a multimodal one.
bool IsOfAnotherModality(std::string_view name) {
  constexpr std::string_view kParts[] = {"vision", "visual", "audio", "multi_modal"};
  return std::any_of(std::begin(kParts), std::end(kParts), [name](std::string_view part) {
    return name.find(part) != std::string_view::npos;
  });
}

// Names under which the source's metadata offers a tensor a second time.
std::set<std::string> SharedTensors(const Checkpoint& checkpoint) {
  std::set<std::string> shared;
  for (const Shard& shard : checkpoint.shards()) {
    for (const auto& [alias, stored] : shard.header.metadata) shared.insert(stored);
  }
  return shared;
}

// Of 8-bit weights: indices of the tensors that hold their scales.
std::set<size_t> ScalesOf(const Checkpoint& checkpoint) {
  std::set<size_t> scales;
  for (const StoredTensor& tensor : checkpoint.tensors()) {
    if (tensor.scales) scales.insert(*tensor.scales);
  }
  return scales;
}

}  // namespace

bool MatchesAny(const std::vector<std::string>& patterns, const std::string& tensor) {
  const std::string module = ModuleOf(tensor);
  return std::any_of(patterns.begin(), patterns.end(), [&](const std::string& pattern) {
    return fnmatch(pattern.c_str(), module.c_str(), 0) == 0 ||
           fnmatch(pattern.c_str(), tensor.c_str(), 0) == 0;
  });
}

Classification::Classification(const Checkpoint& checkpoint, TensorRoles roles,
                               const QuantizeOptions& options)
    : checkpoint_(checkpoint),
      options_(options),
      scheme_(TraitsOf(options.scheme)),
      roles_(std::move(roles)),
      shared_(SharedTensors(checkpoint)) {}

std::vector<PlanRow> Classification::Rows() const {
  std::vector<PlanRow> rows;
  const std::set<size_t> scales = ScalesOf(checkpoint_);
  for (size_t i = 0; i < checkpoint_.tensors().size(); ++i) {
    if (scales.contains(i)) continue;  // part of the weight that they belong to
    const StoredTensor& tensor = checkpoint_.tensors()[i];
    PlanRow& row = rows.emplace_back();
    row.source = tensor;
    row.kept_because = KeptBecause(tensor);
    row.quantized = row.kept_because.empty();
    row.scheme = options_.scheme;
    row.asymmetric = options_.asymmetric;
    row.scale_dtype = tensor.info.dtype;
  }
  KeepFusedAlike(rows);
  return rows;
}

void Classification::KeepFusedAlike(std::vector<PlanRow>& rows) const {
  if (options_.format != Format::kCompressedTensors) return;
  std::map<int, const PlanRow*> kept;
  for (const PlanRow& row : rows) {
    if (const TensorRole* role = LinearRole(row); role != nullptr && !row.quantized) {
      kept.try_emplace(role->fused, &row);
    }
  }
  for (PlanRow& row : rows) {
    const TensorRole* role = LinearRole(row);
    if (role == nullptr || !row.quantized || !kept.contains(role->fused)) continue;
    row.quantized = false;
    row.pinned.clear();
    row.kept_because = fmt::format("used together with {}, which is kept",
                                   ModuleOf(kept[role->fused]->source.info.name));
  }
}

const TensorRole* Classification::LinearRole(const PlanRow& row) const {
  const auto role = roles_.find(row.source.info.name);
  return role == roles_.end() || !role->second.other.empty() ? nullptr : &role->second;
}

// Empty for a tensor that can be quantized.
std::string Classification::KeptBecause(const StoredTensor& tensor) const {
  const TensorInfo& info = tensor.info;
  const auto role = roles_.find(info.name);
  if (role == roles_.end()) {
    return IsOfAnotherModality(info.name) ? "not of the text model" : "not a linear layer";
  }
  if (!role->second.other.empty()) return std::string(role->second.other);
  if (role->second.transposed) return "stored [in, out], which consumers do not take";
  if (!IsFloatWeight(info.dtype) && !tensor.scales)
    return fmt::format("stored as {}", NameOf(info.dtype));
  if (shared_.contains(info.name)) return "shared under another name";
  if (info.shape.size() != 2) return "not a matrix";
  if (MatchesAny(options_.ignore, info.name)) return "ignored as asked";
  if (!options_.include.empty() && !MatchesAny(options_.include, info.name)) {
    return "not included";
  }
  if (role->second.expert && options_.asymmetric) return "an expert has no zero points";
  // A GGUF output has other types for such rows (gguf_plan.h).
  if (options_.format == Format::kDense && scheme_.codes == CodeKind::kGgufBlocks &&
      info.shape[1] % FindGgufBlockType(scheme_.gguf_type)->elements != 0) {
    return "row length not a multiple of a block";
  }
  return PackingObstacle(scheme_, options_.asymmetric, info.shape);
}

absl::Status CheckPatterns(const Checkpoint& checkpoint, const QuantizeOptions& options) {
  for (const auto& [option, patterns] :
       {std::pair("ignore", &options.ignore), std::pair("include", &options.include)}) {
    for (const std::string& pattern : *patterns) {
      const auto matches = [&](const StoredTensor& tensor) {
        return MatchesAny({pattern}, tensor.info.name);
      };
      const auto& tensors = checkpoint.tensors();
      if (std::any_of(tensors.begin(), tensors.end(), matches)) continue;
      return Error(Reason::kOptionInvalid, option,
                   fmt::format("'{}' matches no tensor of the checkpoint", pattern),
                   "name modules as plan lists them; * stands for any part");
    }
  }
  return absl::OkStatus();
}

}  // namespace linchpin
