#include "quantize/gguf_plan.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"
#include "fmt/format.h"

namespace linchpin {
namespace {

constexpr uint32_t kF32 = 0;

using RowsByName = std::map<std::string, PlanRow, std::less<>>;

uint32_t TypeOf(DType dtype) {
  if (dtype == DType::kF16) return TraitsOf(Scheme::kF16).gguf_type;
  return dtype == DType::kBF16 ? TraitsOf(Scheme::kBF16).gguf_type : kF32;
}

const GgufBlockType& BlocksOf(Scheme scheme) {
  return *FindGgufBlockType(TraitsOf(scheme).gguf_type);
}

bool IsPlain(Scheme scheme) { return BlocksOf(scheme).dtype.has_value(); }

// The first of a scheme and what it gives way to whose blocks divide the rows.
Scheme FitToRows(Scheme scheme, int64_t columns) {
  while (columns % BlocksOf(scheme).elements != 0) scheme = TraitsOf(scheme).fall_back;
  return scheme;
}

absl::Status OtherModel(const GgufSlot& slot, std::string_view why, Reason reason) {
  return Error(reason, fmt::format("tensor {} of the donor", slot.tensor.name), why,
               "give a GGUF file of the same model");
}

class GgufPlan {
 public:
  GgufPlan(const Checkpoint& checkpoint, bool tied, Plan& plan)
      : checkpoint_(checkpoint), tied_(tied), plan_(plan) {
    for (PlanRow& row : plan.rows) rows_.emplace(row.source.info.name, row);
  }

  absl::Status Follow(const GgufTemplate& pattern) {
    std::vector<PlanRow> rows;
    for (const GgufSlot& slot : pattern.slots()) {
      std::vector<PlanRow> parts;
      for (const StoredTensor& part : slot.parts) {
        ASSIGN_OR_RETURN(PlanRow row, RowOf(slot, part));
        parts.push_back(std::move(row));
      }
      ChooseTypes(slot, parts);
      for (PlanRow& row : parts) rows.push_back(std::move(row));
    }
    RETURN_IF_ERROR(CheckAllUsed());
    AddNotes();
    plan_.rows = std::move(rows);
    return absl::OkStatus();
  }

 private:
  // As the plan has it, under the name that the output's reader gives it.
  absl::StatusOr<PlanRow> RowOf(const GgufSlot& slot, const StoredTensor& part) {
    const absl::StatusOr<const StoredTensor*> source = checkpoint_.Find(part.info.name);
    if (!source.ok()) {
      return OtherModel(slot, "the source has no such tensor", Reason::kTensorMissing);
    }
    const TensorInfo& info = (*source)->info;
    if (info.shape != part.info.shape) {
      return OtherModel(slot,
                        fmt::format("its shape is {}, that of the source {}",
                                    ShapeText(part.info.shape), ShapeText(info.shape)),
                        Reason::kTensorShapeInvalid);
    }
    used_.insert(info.name);
    PlanRow row = rows_.at(info.name);
    row.outputs = {{part.info.name, DType::kU8, {}}};
    row.gguf = part.encoding.value_or(RowEncoding{});
    if (!checkpoint_.is_gguf()) return row;
    // In the file's own order, and as it stands there.
    row.gguf->heads = 0;
    row.gguf->added = 0;
    if (!row.source.encoding) return row;
    row.source.encoding->heads = 0;
    row.source.encoding->added = 0;
    if (const auto plain = row.source.encoding->type->dtype) {
      row.source.info.dtype = *plain;
      row.source.encoding.reset();
    }
    return row;
  }

  // All parts of a slot have one type.
  void ChooseTypes(const GgufSlot& slot, std::vector<PlanRow>& parts) {
    const auto kept =
        std::find_if(parts.begin(), parts.end(), [](const PlanRow& row) { return !row.quantized; });
    if (kept != parts.end()) {
      const std::string because = kept->kept_because;
      for (PlanRow& row : parts) {
        if (row.quantized) row.kept_because = because;
        row.quantized = false;
        row.held_out.clear();
      }
    }
    for (PlanRow& row : parts) SetType(row, TypeFor(slot, row));
  }

  const GgufBlockType* TypeFor(const GgufSlot& slot, PlanRow& row) {
    const std::vector<int64_t>& shape = row.source.info.shape;
    const bool outer = row.kept_because == "embedding" || row.kept_because == "positions" ||
                       row.kept_because == "output head";
    const bool plain = checkpoint_.is_gguf() ? slot.tensor.type->dtype.has_value() : true;
    const Scheme wanted = plan_.options.scheme;
    if (row.quantized) {
      Quantize(row, row.scheme);
    } else if (outer && shape.size() == 2 && (plain || IsPlain(wanted))) {
      row.quantized = true;
      Quantize(row, IsPlain(wanted) ? wanted : Scheme::kQ8_0);
    } else if (checkpoint_.is_gguf()) {
      return slot.tensor.type;
    } else {
      const bool small = shape.size() < 2 || row.kept_because == "router";
      return FindGgufBlockType(small ? kF32 : TypeOf(row.dtype));
    }
    return &BlocksOf(row.scheme);
  }

  void Quantize(PlanRow& row, Scheme scheme) {
    const int64_t columns = row.source.info.shape[1];
    row.scheme = FitToRows(scheme, columns);
    if (row.scheme != scheme) ++gave_way_[{columns, row.scheme}];
    row.group_size = BlocksOf(row.scheme).elements;
  }

  static void SetType(PlanRow& row, const GgufBlockType* type) {
    row.gguf->type = type;
    const std::vector<int64_t>& shape = row.source.info.shape;
    const int64_t rows = shape.size() < 2 ? 1 : shape[0];
    const int64_t columns = rows == 0 ? 0 : ElementCount(shape).value_or(0) / rows;
    row.outputs[0].shape = {rows, GgufRowBytes(*type, columns)};
  }

  // A tensor of the model that the pattern has no place for would be lost.
  absl::Status CheckAllUsed() const {
    for (const auto& [name, row] : rows_) {
      const bool tied = row.kept_because == "output head" && tied_;
      if (used_.contains(name) || row.kept_because == "not a linear layer" || tied) continue;
      return Error(Reason::kTensorMissing, fmt::format("tensor {}", name),
                   "the donor has no place for it", "give a GGUF file of the same model");
    }
    return absl::OkStatus();
  }

  void AddNotes() {
    for (const auto& [what, count] : gave_way_) {
      plan_.notes.push_back(
          fmt::format("{} weights are {}, as their rows of {} elements are no whole blocks of {}",
                      count, NameOf(what.second), what.first, NameOf(plan_.options.scheme)));
    }
  }

  const Checkpoint& checkpoint_;
  const bool tied_;
  Plan& plan_;
  RowsByName rows_;
  std::set<std::string> used_;
  std::map<std::pair<int64_t, Scheme>, int> gave_way_;
};

}  // namespace

absl::Status FollowGguf(const Checkpoint& checkpoint, bool tied, const GgufTemplate* pattern,
                        Plan& plan) {
  if (pattern != nullptr) return GgufPlan(checkpoint, tied, plan).Follow(*pattern);
  return Error(Reason::kFeatureUnsupported, checkpoint.path(),
               "a GGUF file needs metadata and a tokenizer to follow",
               "name a GGUF file of the same model as donor of both");
}

int64_t GgufRowBytes(const GgufBlockType& type, int64_t columns) {
  return columns / type.elements * type.bytes;
}

}  // namespace linchpin
