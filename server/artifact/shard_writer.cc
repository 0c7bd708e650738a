#include "artifact/shard_writer.h"

#include <algorithm>
#include <atomic>
#include <numeric>

#include "artifact/progress_meter.h"
#include "base/parallel.h"
#include "base/status.h"

namespace linchpin {

ShardWriter::ShardWriter(const Checkpoint& checkpoint, const Plan& plan, const ShardFiles& shards)
    : checkpoint_(checkpoint), plan_(plan), shards_(shards) {
  std::map<const WritableFile*, RunningDigest*> digest_of;
  for (const ShardFiles::File& file : shards.files()) {
    digests_.push_back(std::make_unique<RunningDigest>(file.name, file.size, *file.file));
    digest_of[file.file.get()] = digests_.back().get();
    file_of_[digests_.back().get()] = digests_.size() - 1;
  }
  for (size_t row = 0; row < plan_.rows.size(); ++row) {
    slots_.push_back(shards.SlotsOf(row));
    for (TensorSlot& slot : slots_.back()) slot.file = digest_of.at(slot.file);
  }
}

// Where a row fails, with an exception too, or is the last, nobody waits for more.
struct ShardWriter::RowInHand {
  explicit RowInHand(ShardWriter& shard_writer) : writer(shard_writer) {}
  RowInHand(const RowInHand&) = delete;
  ~RowInHand() {
    if (!more_follow) writer.NoMore();
  }
  ShardWriter& writer;
  bool more_follow = false;
};

size_t ShardWriter::FileOf(size_t row) const { return file_of_.at(slots_[row][0].file); }

absl::Status ShardWriter::Begin(const RunContext& context) {
  std::vector<std::vector<std::pair<uint64_t, uint64_t>>> later(digests_.size());
  for (size_t row = 0; row < plan_.rows.size(); ++row) {
    ASSIGN_OR_RETURN(const std::vector<TensorSlot> slots,
                     WriteConstants(plan_.options, plan_.rows[row], slots_[row]));
    for (const TensorSlot& slot : slots) {
      later[file_of_.at(slot.file)].emplace_back(slot.begin, slot.begin + slot.size);
    }
  }
  for (size_t file = 0; file < digests_.size(); ++file) {
    std::sort(later[file].begin(), later[file].end());
    uint64_t end = 0;
    for (const auto& [begin, next] : later[file]) {
      RETURN_IF_ERROR(digests_[file]->Written(end, begin, context));
      end = next;
    }
    RETURN_IF_ERROR(digests_[file]->Written(end, shards_.files()[file].size, context));
  }
  return absl::OkStatus();
}

absl::StatusOr<TensorRecord> ShardWriter::WriteRow(size_t row, const Importance* importance,
                                                   const Journal& journal,
                                                   const RunContext& context,
                                                   ProgressMeter& meter) {
  const std::vector<TensorSlot>& slots = slots_[row];
  ASSIGN_OR_RETURN(std::optional<TensorRecord> record, journal.Find(row, slots, context));
  if (record) {
    meter.Add(record->name, record->bytes_in);
    meter.CountTensor(ActionOf(plan_.rows[row]));
  } else {
    ASSIGN_OR_RETURN(record, WriteTensor(checkpoint_, plan_.options, plan_.rows[row], importance,
                                         slots, context, meter));
    RETURN_IF_ERROR(journal.Note(row, *record));
  }
  for (const TensorSlot& slot : slots) {
    RETURN_IF_ERROR(DigestOf(slot).Written(slot.begin, slot.begin + slot.size, context));
  }
  return *std::move(record);
}

absl::StatusOr<std::vector<TensorRecord>> ShardWriter::Write(const Importance* importance,
                                                             const Journal& journal,
                                                             const RunContext& context) {
  RETURN_IF_ERROR(Begin(context));
  // File after file, so that the digests can follow; and within one in the plan's order, which
  // is that of every region of it: no region has holes for long, which a store that takes
  // whole parts would keep in memory.
  std::vector<size_t> order(plan_.rows.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [this](size_t a, size_t b) { return FileOf(a) < FileOf(b); });
  ProgressMeter meter(Stage::kQuantize, plan_.bytes_in(), context);
  std::vector<TensorRecord> records(order.size());
  // A thread that finds no more tensors follows the files that others still write.
  std::atomic<size_t> left = order.size();
  if (left == 0) NoMore();
  const size_t pieces = order.size() + digests_.size();
  RETURN_IF_ERROR(ForEachIndex(context.threads, pieces, [&](size_t i) -> absl::Status {
    if (i >= order.size()) return digests_[i - order.size()]->Follow(context);
    RowInHand row(*this);
    ASSIGN_OR_RETURN(records[order[i]], WriteRow(order[i], importance, journal, context, meter));
    row.more_follow = --left > 0;
    return absl::OkStatus();
  }));
  RETURN_IF_ERROR(checkpoint_.CheckUnchanged());
  meter.Done(plan_.bytes_in(), plan_.bytes_out());
  return records;
}

void ShardWriter::NoMore() {
  for (const auto& digest : digests_) digest->NoMore();
}

absl::StatusOr<std::vector<FileRecord>> ShardWriter::Digests(const RunContext& context) {
  std::vector<FileRecord> records(digests_.size());
  RETURN_IF_ERROR(ForEachIndex(context.threads, digests_.size(), [&](size_t file) -> absl::Status {
    ASSIGN_OR_RETURN(records[file], digests_[file]->Finish(context));
    return absl::OkStatus();
  }));
  return records;
}

}  // namespace linchpin
