#include "artifact/journal.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "artifact/digest.h"
#include "base/status.h"
#include "fmt/format.h"
#include "fmt/ranges.h"
#include "format/json.h"

namespace linchpin {
namespace {

constexpr size_t kCheckDigits = 16;

// A note with a digest of itself, which a torn one lacks.
std::string LineOf(const Json& note) {
  const std::string text = note.dump();
  return fmt::format("{} {}\n", Sha256Hex(text).substr(0, kCheckDigits), text);
}

std::optional<Json> ParseLine(std::string_view line) {
  if (line.size() < kCheckDigits + 2) return std::nullopt;
  const std::string_view text = line.substr(kCheckDigits + 1);
  if (Sha256Hex(text).substr(0, kCheckDigits) != line.substr(0, kCheckDigits)) return std::nullopt;
  Json note = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  return note.is_object() ? std::optional(std::move(note)) : std::nullopt;
}

std::string TextIn(const Json& note, const char* key) {
  const auto found = note.find(key);
  return found != note.end() && found->is_string() ? found->get<std::string>() : "";
}

double NumberIn(const Json& note, const char* key) {
  const auto found = note.find(key);
  return found != note.end() && found->is_number() ? found->get<double>() : 0;
}

// As the plan has it, but for what the weights made.
TensorRecord RecordOf(const PlanRow& row, const Json& note) {
  TensorRecord record = BeginRecord(row);
  record.max_error = NumberIn(note, "max_error");
  record.rms_error = NumberIn(note, "rms_error");
  record.sha256 = TextIn(note, "sha256");
  return record;
}

std::string TextOf(const std::vector<PinnedWeight>& weights) {
  std::string text;
  for (const PinnedWeight& weight : weights) {
    const WeightPosition& at = weight.position;
    text += fmt::format(" {}[{},{}]={:a}", at.tensor, at.row, at.column, weight.value);
  }
  return text;
}

std::string TextOf(const PlanRow& row) {
  std::string text = fmt::format("{} {} {} {} {} {} {} {} {}|{}|{}|", row.source.info.name,
                                 row.quantized, NameOf(row.scheme), row.group_size, row.asymmetric,
                                 NameOf(row.scale), NameOf(row.scale_dtype), NameOf(row.dtype),
                                 row.kept_because, TextOf(row.pinned), TextOf(row.held_out));
  if (row.equalized != Equalized::kNo) text += "equalized|";
  if (row.gguf)
    text += fmt::format("{} {} {}|", row.gguf->type->name, row.gguf->heads, row.gguf->added);
  for (const TensorInfo& output : row.outputs) {
    text +=
        fmt::format("{} {} [{}];", output.name, NameOf(output.dtype), fmt::join(output.shape, ","));
  }
  return text + "\n";
}

void Update(Sha256& digest, std::string_view text) {
  digest.Update({reinterpret_cast<const std::byte*>(text.data()), text.size()});
}

}  // namespace

std::string IdentityOf(const Checkpoint& checkpoint, const Plan& plan,
                       const Importance* importance) {
  Sha256 digest;
  Update(digest, fmt::format("{}\n{}\n{}\n", LINCHPIN_VERSION, checkpoint.Version(),
                             checkpoint.config_text()));
  const BlockOptions& blocks = plan.options.blocks;
  Update(digest, fmt::format("{} {} {} {} {} {:a} {:a}\n", NameOf(plan.options.format),
                             NameOf(plan.options.preserve), blocks.bits, blocks.run, blocks.tile,
                             blocks.z, plan.options.sparsity));
  for (const PlanRow& row : plan.rows) {
    Update(digest, TextOf(row));
    const InputStatistics* statistics =
        importance == nullptr ? nullptr : FindImportance(*importance, row.source.info.name);
    if (statistics == nullptr) continue;
    digest.Update({reinterpret_cast<const std::byte*>(statistics->mean_squares.data()),
                   statistics->mean_squares.size() * sizeof(statistics->mean_squares[0])});
  }
  return digest.Hex();
}

absl::StatusOr<Journal> Journal::Open(const Checkpoint& checkpoint, const Plan& plan,
                                      const Importance* importance, OutputDirectory& output) {
  Journal journal;
  if (!output.KeepsNotes() || checkpoint.Version().empty()) return journal;
  journal.output_ = &output;
  const std::string identity = IdentityOf(checkpoint, plan, importance);
  ASSIGN_OR_RETURN(const std::string notes, output.EarlierNotes());
  bool ours = false;
  std::string_view left = notes;
  while (!left.empty()) {
    const std::string_view line = left.substr(0, left.find('\n'));
    left.remove_prefix(std::min(line.size() + 1, left.size()));
    const std::optional<Json> note = ParseLine(line);
    if (!note) continue;
    if (note->contains("identity")) {
      // What another run wrote over is not what was noted.
      ours = TextIn(*note, "identity") == identity;
      if (!ours) journal.earlier_.clear();
    }
    if (!ours || !note->contains("row") || !(*note)["row"].is_number_unsigned()) continue;
    const auto row = (*note)["row"].get<size_t>();
    if (row < plan.rows.size()) journal.earlier_[row] = RecordOf(plan.rows[row], *note);
  }
  if (!ours) RETURN_IF_ERROR(output.Note(LineOf({{"identity", identity}})));
  return journal;
}

absl::StatusOr<std::optional<TensorRecord>> Journal::Find(size_t row,
                                                          const std::vector<TensorSlot>& slots,
                                                          const RunContext& context) const {
  const auto found = earlier_.find(row);
  if (found == earlier_.end()) return std::optional<TensorRecord>();
  Sha256 digest;
  for (const TensorSlot& slot : slots) {
    RETURN_IF_ERROR(
        UpdateFrom([&slot](uint64_t at, absl::Span<std::byte> out) { return slot.Read(at, out); },
                   0, slot.size, context, digest));
  }
  if (digest.Hex() != found->second.sha256) return std::optional<TensorRecord>();
  return std::optional(found->second);
}

absl::Status Journal::Note(size_t row, const TensorRecord& record) const {
  // JSON has no infinity; such a tensor is made again.
  if (output_ == nullptr || !std::isfinite(record.max_error + record.rms_error)) {
    return absl::OkStatus();
  }
  return output_->Note(LineOf({{"row", row},
                               {"sha256", record.sha256},
                               {"max_error", record.max_error},
                               {"rms_error", record.rms_error}}));
}

}  // namespace linchpin
