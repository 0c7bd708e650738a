#include "artifact/compressed_tensors.h"

#include <algorithm>
#include <map>
#include <memory>
#include <utility>

#include "artifact/lora_adapter.h"
#include "artifact/progress_meter.h"
#include "artifact/shard_files.h"
#include "base/parallel.h"
#include "fmt/format.h"
#include "format/shard_index.h"
#include "tensor/float16.h"

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
    ASSIGN_OR_RETURN(records[i], WriteTensor(checkpoint, plan.options, plan.rows[i], importance,
                                             shards.SlotsOf(i), context, meter));
    return absl::OkStatus();
  }));
  RETURN_IF_ERROR(checkpoint.CheckUnchanged());
  meter.Done(plan.bytes_in(), plan.bytes_out());
  return records;
}

std::string TextOf(const Json& json) {
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

// The tokenizer that a GGUF file has in its metadata.
absl::Status WriteTokenizer(const Checkpoint& checkpoint, SideFiles& side,
                            std::vector<std::string>& notes) {
  const absl::StatusOr<std::string> text = checkpoint.TokenizerText();
  if (!text.ok()) {
    notes.push_back(
        fmt::format("the output has no tokenizer: {}", std::string(text.status().message())));
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(side.Write("tokenizer.json", *text));
  return side.Write("tokenizer_config.json",
                    TextOf({{"tokenizer_class", "PreTrainedTokenizerFast"}}));
}

absl::Status WriteSideFiles(const Checkpoint& checkpoint, const Plan& plan,
                            const ShardFiles& shards, const RunContext& context, SideFiles& side,
                            std::vector<std::string>& notes) {
  if (plan.options.format == Format::kGguf) return absl::OkStatus();
  ASSIGN_OR_RETURN(Json config, PlainConfig(checkpoint, plan));
  if (plan.options.format == Format::kCompressedTensors) {
    ASSIGN_OR_RETURN(config, QuantizedConfig(config.dump(), plan));
  }
  RETURN_IF_ERROR(side.Write("config.json", TextOf(config)));
  if (checkpoint.is_gguf()) return WriteTokenizer(checkpoint, side, notes);
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

// What the quantized weights miss goes into an adapter; what was kept then is what
// both together give.
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

}  // namespace

absl::StatusOr<ArtifactRecord> WriteCompressedTensors(const Checkpoint& checkpoint,
                                                      const Plan& plan, OutputDirectory& output,
                                                      const RunContext& context,
                                                      const Importance* importance,
                                                      const GgufTemplate* pattern) {
  if (plan.options.format != Format::kGguf) pattern = nullptr;
  ASSIGN_OR_RETURN(const ShardFiles shards, pattern == nullptr
                                                ? ShardFiles::Create(checkpoint, plan, output)
                                                : ShardFiles::CreateGguf(*pattern, plan, output));
  ArtifactRecord record;
  ASSIGN_OR_RETURN(record.tensors, WriteTensors(checkpoint, plan, importance, shards, context));
  ASSIGN_OR_RETURN(record.kept, ReadBackAll(checkpoint, plan, shards));

  SideFiles side(output);
  RETURN_IF_ERROR(WriteSideFiles(checkpoint, plan, shards, context, side, record.notes));
  if (plan.options.preserve == Preserve::kLora) {
    RETURN_IF_ERROR(WriteAdapter(plan, pattern, record.kept, side));
  }
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
