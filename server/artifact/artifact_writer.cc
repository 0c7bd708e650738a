#include "artifact/artifact_writer.h"

#include <utility>

#include "artifact/kept_weights.h"
#include "artifact/progress_meter.h"
#include "artifact/shard_files.h"
#include "artifact/side_files.h"
#include "base/parallel.h"
#include "base/status.h"

namespace linchpin {
namespace {

absl::StatusOr<std::vector<TensorRecord>> WriteTensors(const Checkpoint& checkpoint,
                                                       const Plan& plan,
                                                       const Importance* importance,
                                                       const ShardFiles& shards,
                                                       const RunContext& context) {
  ProgressMeter meter(Stage::kQuantize, plan.bytes_in(), context);
  std::vector<TensorRecord> records(plan.rows.size());
  RETURN_IF_ERROR(ForEachIndex(context.threads, records.size(), [&](size_t i) -> absl::Status {
    ASSIGN_OR_RETURN(records[i], WriteTensor(checkpoint, plan.options, plan.rows[i], importance,
                                             shards.SlotsOf(i), context, meter));
    return absl::OkStatus();
  }));
  RETURN_IF_ERROR(checkpoint.CheckUnchanged());
  meter.Done(plan.bytes_in(), plan.bytes_out());
  return records;
}

std::vector<DigestSource> DigestSources(const std::vector<ShardFiles::File>& shards,
                                        const std::vector<ShardFiles::File>& side) {
  std::vector<DigestSource> sources;
  for (const auto* files : {&shards, &side}) {
    for (const ShardFiles::File& file : *files) {
      sources.push_back(
          {file.name, file.size, [from = file.file.get()](uint64_t at, absl::Span<std::byte> out) {
             return from->ReadAt(at, out);
           }});
    }
  }
  return sources;
}

}  // namespace

absl::StatusOr<ArtifactRecord> WriteArtifact(const Checkpoint& checkpoint, const Plan& plan,
                                             OutputDirectory& output, const RunContext& context,
                                             const Importance* importance,
                                             const GgufTemplate* pattern) {
  if (plan.options.format != Format::kGguf) pattern = nullptr;
  ASSIGN_OR_RETURN(const ShardFiles shards, pattern == nullptr
                                                ? ShardFiles::Create(checkpoint, plan, output)
                                                : ShardFiles::CreateGguf(*pattern, plan, output));
  ASSIGN_OR_RETURN(ArtifactRecord record,
                   WriteWeights(checkpoint, plan, shards, context, importance));
  SideFiles side(output);
  RETURN_IF_ERROR(WriteSideFiles(checkpoint, plan, shards.index(), context, side, record.notes));
  if (plan.options.preserve == Preserve::kLora) {
    RETURN_IF_ERROR(WriteAdapter(plan, pattern, record.kept, side));
  }
  ASSIGN_OR_RETURN(record.files, DigestOutput(shards.files(), side.files(), context));
  return record;
}

absl::StatusOr<ArtifactRecord> WriteWeights(const Checkpoint& checkpoint, const Plan& plan,
                                            const ShardFiles& shards, const RunContext& context,
                                            const Importance* importance) {
  ArtifactRecord record;
  ASSIGN_OR_RETURN(record.tensors, WriteTensors(checkpoint, plan, importance, shards, context));
  ASSIGN_OR_RETURN(record.kept, ReadBackAll(checkpoint, plan, shards));
  return record;
}

absl::StatusOr<std::vector<FileRecord>> DigestOutput(const std::vector<ShardFiles::File>& shards,
                                                     const std::vector<ShardFiles::File>& side,
                                                     const RunContext& context) {
  uint64_t total = 0;
  uint64_t side_bytes = 0;
  for (const ShardFiles::File& file : shards) total += file.size;
  for (const ShardFiles::File& file : side) side_bytes += file.size;
  total += side_bytes;
  ProgressMeter meter(Stage::kArtifact, total, context);
  ASSIGN_OR_RETURN(std::vector<FileRecord> files,
                   DigestFiles(DigestSources(shards, side), context, meter));
  meter.Done(side_bytes, side_bytes);
  return files;
}

}  // namespace linchpin
