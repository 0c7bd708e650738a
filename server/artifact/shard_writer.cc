#include "artifact/shard_writer.h"

#include <algorithm>
#include <numeric>

#include "artifact/progress_meter.h"
#include "base/parallel.h"
#include "base/status.h"

namespace linchpin {

ShardWriter::ShardWriter(const Checkpoint& checkpoint, const Plan& plan, const ShardFiles& shards)
    : checkpoint_(checkpoint), plan_(plan), shards_(shards) {
  for (const ShardFiles::File& file : shards.files()) {
    file_of_[file.file.get()] = digests_.size();
    digests_.push_back(std::make_unique<RunningDigest>(file.name, file.size, *file.file));
  }
}

size_t ShardWriter::FileOf(size_t row) const { return file_of_.at(shards_.SlotsOf(row)[0].file); }

absl::Status ShardWriter::Begin(const RunContext& context) {
  std::vector<std::vector<std::pair<uint64_t, uint64_t>>> later(digests_.size());
  for (size_t row = 0; row < plan_.rows.size(); ++row) {
    ASSIGN_OR_RETURN(std::vector<TensorSlot> slots,
                     WriteConstants(plan_.options, plan_.rows[row], shards_.SlotsOf(row)));
    for (const TensorSlot& slot : slots) {
      later[file_of_.at(slot.file)].emplace_back(slot.begin, slot.begin + slot.size);
    }
    slots_.push_back(std::move(slots));
  }
  for (size_t file = 0; file < digests_.size(); ++file) {
    std::sort(later[file].begin(), later[file].end());
    uint64_t end = 0;
    for (const auto& [begin, next] : later[file]) {
      RETURN_IF_ERROR(digests_[file]->Written(end, begin, context));
      end = next;
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<TensorRecord> ShardWriter::WriteRow(size_t row, const Importance* importance,
                                                   const Journal& journal,
                                                   const RunContext& context,
                                                   ProgressMeter& meter) {
  const std::vector<TensorSlot>& slots = shards_.SlotsOf(row);
  ASSIGN_OR_RETURN(std::optional<TensorRecord> record, journal.Find(row, slots, context));
  if (record) {
    meter.Add(record->name, record->bytes_in);
    meter.CountTensor(ActionOf(plan_.rows[row]));
  } else {
    ASSIGN_OR_RETURN(record, WriteTensor(checkpoint_, plan_.options, plan_.rows[row], importance,
                                         slots, context, meter));
    RETURN_IF_ERROR(journal.Note(row, *record));
  }
  for (const TensorSlot& slot : slots_[row]) {
    RETURN_IF_ERROR(
        digests_[file_of_.at(slot.file)]->Written(slot.begin, slot.begin + slot.size, context));
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
  RETURN_IF_ERROR(ForEachIndex(context.threads, order.size(), [&](size_t i) -> absl::Status {
    ASSIGN_OR_RETURN(records[order[i]], WriteRow(order[i], importance, journal, context, meter));
    return absl::OkStatus();
  }));
  RETURN_IF_ERROR(checkpoint_.CheckUnchanged());
  meter.Done(plan_.bytes_in(), plan_.bytes_out());
  return records;
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
