#include "artifact/compressed_tensors.h"

#include <algorithm>
#include <map>
#include <memory>
#include <utility>

#include "artifact/progress_meter.h"
#include "artifact/shard_files.h"
#include "base/parallel.h"
#include "fmt/format.h"
#include "format/shard_index.h"

namespace linchpin {
namespace {

constexpr uint64_t kCopyBytes = uint64_t{1} << 20;

// The files beside the shards: created, written, and kept open for their digests.
class SideFiles {
 public:
  explicit SideFiles(OutputDirectory& output) : output_(output) {}

  absl::Status Write(std::string_view name, std::string_view text) {
    ASSIGN_OR_RETURN(WritableFile * file, Create(name, text.size()));
    return file->WriteAt(0, {reinterpret_cast<const std::byte*>(text.data()), text.size()});
  }

  absl::Status Copy(const Checkpoint& checkpoint, const std::string& name,
                    const RunContext& context) {
    ASSIGN_OR_RETURN(const std::unique_ptr<ReadableFile> source, checkpoint.OpenFile(name));
    ASSIGN_OR_RETURN(WritableFile * file, Create(name, source->size()));
    std::vector<std::byte> buffer(std::min(source->size(), kCopyBytes));
    for (uint64_t done = 0; done < source->size(); done += kCopyBytes) {
      RETURN_IF_ERROR(context.Check());
      const absl::Span<std::byte> chunk(buffer.data(), std::min(kCopyBytes, source->size() - done));
      RETURN_IF_ERROR(source->ReadAt(done, chunk));
      RETURN_IF_ERROR(file->WriteAt(done, chunk));
    }
    return source->CheckUnchanged();
  }

  const std::vector<ShardFiles::File>& files() const { return files_; }

 private:
  absl::StatusOr<WritableFile*> Create(std::string_view name, uint64_t size) {
    ASSIGN_OR_RETURN(std::unique_ptr<WritableFile> file, output_.CreateFile(name, size));
    WritableFile* const result = file.get();
    files_.push_back({std::string(name), size, std::move(file)});
    return result;
  }

  OutputDirectory& output_;
  std::vector<ShardFiles::File> files_;
};

absl::StatusOr<std::vector<TensorRecord>> WriteTensors(const Checkpoint& checkpoint,
                                                       const Plan& plan,
                                                       const Importance* importance,
                                                       const ShardFiles& shards,
                                                       const RunContext& context) {
  ProgressMeter meter(Stage::kQuantize, plan.bytes_in(), context);
  std::vector<TensorRecord> records(plan.rows.size());
  RETURN_IF_ERROR(ForEachIndex(context.threads, records.size(), [&](size_t i) -> absl::Status {
    ASSIGN_OR_RETURN(records[i], WriteTensor(checkpoint, plan.rows[i], importance,
                                             shards.SlotsOf(i), context, meter));
    return absl::OkStatus();
  }));
  RETURN_IF_ERROR(checkpoint.CheckUnchanged());
  meter.Done(plan.bytes_in(), plan.bytes_out());
  return records;
}

absl::Status WriteSideFiles(const Checkpoint& checkpoint, const Plan& plan,
                            const ShardFiles& shards, const RunContext& context, SideFiles& side) {
  ASSIGN_OR_RETURN(const Json config, QuantizedConfig(checkpoint.config_text(), plan));
  RETURN_IF_ERROR(
      side.Write("config.json", config.dump(2, ' ', false, Json::error_handler_t::replace) + "\n"));
  if (checkpoint.has_index()) {
    RETURN_IF_ERROR(side.Write(kShardIndexName, SerializeShardIndex(shards.index())));
  }
  for (const FileEntry& file : checkpoint.other_files()) {
    if (file.name == kManifestName) continue;  // of an earlier run
    RETURN_IF_ERROR(side.Copy(checkpoint, file.name, context));
  }
  return absl::OkStatus();
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

// How the plan keeps a super weight.
std::string KeptHow(const PlanRow& row) {
  if (!row.quantized) return "tensor";
  return row.pinned.empty() ? "none" : "scale";
}

absl::StatusOr<std::vector<KeptWeight>> ReadBackAll(const Checkpoint& checkpoint, const Plan& plan,
                                                    const ShardFiles& shards) {
  std::map<std::string, StoredBytes> outputs;
  std::map<std::string, const PlanRow*> rows;
  for (size_t i = 0; i < plan.rows.size(); ++i) {
    rows[plan.rows[i].source.info.name] = &plan.rows[i];
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
    ASSIGN_OR_RETURN(const float value, ReadBack(outputs, stored));
    kept.push_back({weight, value, KeptHow(*rows.at(stored.tensor)), value == weight.value});
  }
  return kept;
}

}  // namespace

absl::StatusOr<ArtifactRecord> WriteCompressedTensors(const Checkpoint& checkpoint,
                                                      const Plan& plan, OutputDirectory& output,
                                                      const RunContext& context,
                                                      const Importance* importance) {
  ASSIGN_OR_RETURN(const ShardFiles shards, ShardFiles::Create(checkpoint, plan, output));
  ArtifactRecord record;
  ASSIGN_OR_RETURN(record.tensors, WriteTensors(checkpoint, plan, importance, shards, context));
  ASSIGN_OR_RETURN(record.kept, ReadBackAll(checkpoint, plan, shards));

  SideFiles side(output);
  RETURN_IF_ERROR(WriteSideFiles(checkpoint, plan, shards, context, side));
  const std::vector<DigestSource> sources = DigestSources(shards.files(), side.files());
  uint64_t shard_bytes = 0;
  uint64_t side_bytes = 0;
  for (const ShardFiles::File& file : shards.files()) shard_bytes += file.size;
  for (const ShardFiles::File& file : side.files()) side_bytes += file.size;
  ProgressMeter meter(Stage::kArtifact, shard_bytes + side_bytes, context);
  ASSIGN_OR_RETURN(record.files, DigestFiles(sources, context, meter));
  meter.Done(side_bytes, side_bytes);
  return record;
}

}  // namespace linchpin
