#include "artifact/artifact_writer.h"

#include <algorithm>
#include <utility>

#include "artifact/journal.h"
#include "artifact/kept_weights.h"
#include "artifact/progress_meter.h"
#include "artifact/shard_files.h"
#include "artifact/shard_writer.h"
#include "artifact/side_files.h"
#include "base/status.h"

namespace linchpin {
namespace {

std::vector<DigestSource> DigestSources(const std::vector<ShardFiles::File>& files) {
  std::vector<DigestSource> sources;
  for (const ShardFiles::File& file : files) {
    sources.push_back(
        {file.name, file.size, [from = file.file.get()](uint64_t at, absl::Span<std::byte> out) {
           return from->ReadAt(at, out);
         }});
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
                   WriteWeights(checkpoint, plan, shards, output, context, importance));
  SideFiles side(output);
  RETURN_IF_ERROR(WriteSideFiles(checkpoint, plan, shards.index(), context, side, record.notes));
  if (plan.options.preserve == Preserve::kLora) {
    RETURN_IF_ERROR(WriteAdapter(plan, pattern, record.kept, side));
  }
  ASSIGN_OR_RETURN(const std::vector<FileRecord> beside, DigestSideFiles(side.files(), context));
  record.files.insert(record.files.end(), beside.begin(), beside.end());
  std::sort(record.files.begin(), record.files.end(), ByName);
  return record;
}

absl::StatusOr<ArtifactRecord> WriteWeights(const Checkpoint& checkpoint, const Plan& plan,
                                            const ShardFiles& shards, OutputDirectory& output,
                                            const RunContext& context,
                                            const Importance* importance) {
  ArtifactRecord record;
  ShardWriter writer(checkpoint, plan, shards);
  ASSIGN_OR_RETURN(const Journal journal, Journal::Open(checkpoint, plan, importance, output));
  ASSIGN_OR_RETURN(record.tensors, writer.Write(importance, journal, context));
  ASSIGN_OR_RETURN(record.kept, ReadBackAll(checkpoint, plan, shards));
  ASSIGN_OR_RETURN(record.files, writer.Digests(context));
  return record;
}

absl::StatusOr<std::vector<FileRecord>> DigestSideFiles(const std::vector<ShardFiles::File>& files,
                                                        const RunContext& context) {
  uint64_t total = 0;
  for (const ShardFiles::File& file : files) total += file.size;
  ProgressMeter meter(Stage::kArtifact, total, context);
  ASSIGN_OR_RETURN(std::vector<FileRecord> records,
                   DigestFiles(DigestSources(files), context, meter));
  meter.Done(total, total);
  return records;
}

}  // namespace linchpin
