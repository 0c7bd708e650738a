#include "pipeline/shard_parts.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <string>
#include <utility>

#include "base/parallel.h"
#include "base/status.h"
#include "fmt/format.h"
#include "fmt/ranges.h"
#include "pipeline/job_key.h"
#include "pipeline/shard_importance.h"
#include "pipeline/source_record.h"

namespace linchpin {
namespace {

// Puts a shard's file into the output, if its samples are those that were taken
// when it was written.
absl::Status TakeShard(const Storage& storage, const std::string& directory,
                       const FinishedShard& part, OutputDirectory& output,
                       const RunContext& context) {
  const std::string path = directory + "/" + part.file.name;
  ASSIGN_OR_RETURN(const auto file, storage.Open(path));
  ASSIGN_OR_RETURN(const std::string samples,
                   SampleDigest(file->size(), [&file](uint64_t at, absl::Span<std::byte> out) {
                     return file->ReadAt(at, out);
                   }));
  if (samples != part.samples) {
    return Error(Reason::kDigestMismatch, path, "its bytes are not those that were written",
                 "remove its directory and compress the shard again");
  }
  return output.TakeFile(part.file.name, *file, context);
}

}  // namespace

absl::StatusOr<std::vector<FinishedShard>> ReadParts(const Storage& storage, const ShardJob& job,
                                                     int count, const RunContext& context) {
  std::vector<absl::StatusOr<FinishedShard>> read(static_cast<size_t>(count),
                                                  absl::UnknownError(""));
  RETURN_IF_ERROR(ForEachIndex(kSideBySide, read.size(), [&](size_t i) {
    read[i] = ReadShard(storage, job, static_cast<int>(i));
    return context.Check();
  }));
  std::vector<FinishedShard> parts;
  std::vector<size_t> missing;
  for (size_t i = 0; i < read.size(); ++i) {
    if (read[i].ok()) {
      parts.push_back(*std::move(read[i]));
    } else {
      missing.push_back(i);
    }
  }
  if (missing.empty()) return parts;
  return WithDetail(Error(Reason::kSourceNotFound, job.destination,
                          fmt::format("{} of {} shards are not finished: {}", missing.size(), count,
                                      fmt::join(missing, ", ")),
                          "compress them, then call again"),
                    "missing", fmt::format("{}", fmt::join(missing, ",")));
}

absl::Status TakeParts(const Storage& storage, const ShardJob& job,
                       const std::vector<FinishedShard>& parts, OutputDirectory& output,
                       const RunContext& context) {
  std::atomic<size_t> taken = 0;
  return ForEachIndex(kSideBySide, parts.size(), [&](size_t i) -> absl::Status {
    RETURN_IF_ERROR(context.Check());
    RETURN_IF_ERROR(
        TakeShard(storage, ShardDirectory(job, static_cast<int>(i)), parts[i], output, context));
    context.Report({Stage::kArtifact, parts[i].file.name, ++taken, parts.size()});
    return absl::OkStatus();
  });
}

// Of all shards, in the plan's order.
std::vector<KeptWeight> KeptOf(const Plan& plan, const std::vector<FinishedShard>& parts) {
  std::vector<KeptWeight> kept;
  for (const PinnedWeight& pinned : plan.super_weights) {
    for (const FinishedShard& part : parts) {
      const auto found = std::find_if(
          part.kept.begin(), part.kept.end(),
          [&](const KeptWeight& each) { return each.weight.position == pinned.position; });
      if (found != part.kept.end()) kept.push_back(*found);
    }
  }
  return kept;
}

void RemoveParts(const Storage& storage, const ShardJob& job, int shards) {
  ForEachIndex(kSideBySide, static_cast<size_t>(shards), [&](size_t i) {
    storage.RemoveDirectory(ShardDirectory(job, static_cast<int>(i))).IgnoreError();
    return absl::OkStatus();
  }).IgnoreError();
  storage.RemoveDirectory(ImportanceDirectory(job)).IgnoreError();
  storage.RemoveDirectory(SourceRecordDirectory(job)).IgnoreError();
}

}  // namespace linchpin
