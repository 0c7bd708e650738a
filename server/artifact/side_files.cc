#include "artifact/side_files.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "artifact/manifest_claims.h"
#include "artifact/quantized_config.h"
#include "base/status.h"
#include "fmt/format.h"
#include "format/shard_index.h"
#include "storage/copy_bytes.h"

namespace linchpin {
namespace {

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

}  // namespace

absl::Status SideFiles::Write(std::string_view name, std::string_view text) {
  ASSIGN_OR_RETURN(WritableFile * file, Create(name, text.size()));
  return file->WriteAt(0, {reinterpret_cast<const std::byte*>(text.data()), text.size()});
}

absl::Status SideFiles::Copy(const Checkpoint& checkpoint, const std::string& name,
                             const RunContext& context) {
  ASSIGN_OR_RETURN(const std::unique_ptr<ReadableFile> source, checkpoint.OpenFile(name));
  ASSIGN_OR_RETURN(WritableFile * file, Create(name, source->size()));
  RETURN_IF_ERROR(CopyBytes(*source, *file, context));
  return source->CheckUnchanged();
}

absl::StatusOr<WritableFile*> SideFiles::Create(std::string_view name, uint64_t size) {
  ASSIGN_OR_RETURN(std::unique_ptr<WritableFile> file, output_.CreateFile(name, size));
  WritableFile* const result = file.get();
  files_.push_back({std::string(name), size, std::move(file)});
  return result;
}

absl::Status WriteSideFiles(const Checkpoint& checkpoint, const Plan& plan, const ShardIndex& index,
                            const RunContext& context, SideFiles& side,
                            std::vector<std::string>& notes) {
  if (plan.options.format == Format::kGguf) return absl::OkStatus();
  ASSIGN_OR_RETURN(Json config, PlainConfig(checkpoint, plan));
  if (plan.options.format == Format::kCompressedTensors) {
    ASSIGN_OR_RETURN(config, QuantizedConfig(config.dump(), plan));
  }
  RETURN_IF_ERROR(side.Write("config.json", TextOf(config)));
  if (checkpoint.is_gguf()) return WriteTokenizer(checkpoint, side, notes);
  if (checkpoint.has_index()) {
    RETURN_IF_ERROR(side.Write(kShardIndexName, SerializeShardIndex(index)));
  }
  for (const FileEntry& file : checkpoint.other_files()) {
    if (file.name == kManifestName) continue;  // of an earlier run
    RETURN_IF_ERROR(side.Copy(checkpoint, file.name, context));
  }
  return absl::OkStatus();
}

}  // namespace linchpin
