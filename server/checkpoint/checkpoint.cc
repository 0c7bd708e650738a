#include "checkpoint/checkpoint.h"

#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include "base/status.h"
#include "checkpoint/checkpoint_files.h"
#include "checkpoint/tokenizer.h"
#include "fmt/format.h"
#include "format/json.h"
#include "format/shard_index.h"
#include "tensor/float16.h"

namespace linchpin {
namespace {

constexpr uint64_t kMaxConfigBytes = 10'000'000;
constexpr uint64_t kMaxIndexBytes = 100'000'000;
constexpr std::string_view kTokenizerName = "tokenizer.json";
constexpr uint64_t kMaxTokenizerBytes = 256 << 20;
constexpr size_t kReadChunk = size_t{1} << 17;  // elements

absl::StatusOr<SafetensorsHeader> ReadHeader(const ReadableFile& file, const std::string& path) {
  std::array<std::byte, 32> prefix;  // enough to tell what else it may be
  const size_t count = std::min<uint64_t>(prefix.size(), file.size());
  RETURN_IF_ERROR(file.ReadAt(0, absl::MakeSpan(prefix.data(), count)));
  ASSIGN_OR_RETURN(
      const uint64_t length,
      SafetensorsHeaderLength(path, absl::MakeConstSpan(prefix.data(), count), file.size()));
  std::string json(length, '\0');
  RETURN_IF_ERROR(
      file.ReadAt(kSafetensorsPrefixBytes,
                  absl::MakeSpan(reinterpret_cast<std::byte*>(json.data()), json.size())));
  return ParseSafetensorsHeader(path, json, file.size());
}

absl::StatusOr<bool> TiesEmbeddings(std::string_view file, std::string_view config_text) {
  ASSIGN_OR_RETURN(const Json config, ParseJson(file, config_text, Reason::kConfigInvalid));
  if (!config.is_object())
    return Error(Reason::kConfigInvalid, file, "not a JSON object", kMalformedRemedy);
  const auto tie = config.find("tie_word_embeddings");
  return tie != config.end() && tie->is_boolean() && tie->get<bool>();
}

absl::Status IndexInvalid(const std::string& index, std::string_view tensor, std::string_view why) {
  return Error(Reason::kIndexInvalid, index, fmt::format("tensor {}: {}", tensor, why),
               "fetch the checkpoint again or repair its index");
}

}  // namespace

absl::StatusOr<Checkpoint> Checkpoint::Open(const Storage& storage, std::string_view path) {
  if (path.ends_with(kGgufSuffix)) {
    ASSIGN_OR_RETURN(const bool is_directory, storage.IsDirectory(path));
    if (!is_directory) return OpenGguf(storage, path);
  }
  ASSIGN_OR_RETURN(CheckpointFiles files, FindCheckpointFiles(storage, path));
  Checkpoint checkpoint;
  checkpoint.storage_ = &storage;
  checkpoint.path_ = path;
  checkpoint.directory_ = files.directory;
  checkpoint.has_index_ = files.has_index;
  checkpoint.other_files_ = std::move(files.other);
  const std::string config = JoinPath(files.directory, kConfigName);
  ASSIGN_OR_RETURN(checkpoint.config_text_, ReadText(storage, config, kMaxConfigBytes));
  ASSIGN_OR_RETURN(const bool tied, TiesEmbeddings(config, checkpoint.config_text_));

  ShardIndex index;
  std::set<std::string> shard_names = {files.single};
  const std::string index_path = JoinPath(files.directory, kShardIndexName);
  if (files.has_index) {
    ASSIGN_OR_RETURN(const std::string text, ReadText(storage, index_path, kMaxIndexBytes));
    ASSIGN_OR_RETURN(index, ParseShardIndex(index_path, text));
    shard_names.clear();
    for (const auto& [tensor, shard] : index.weight_map) shard_names.insert(shard);
  }
  for (const std::string& name : shard_names) RETURN_IF_ERROR(checkpoint.AddShard(name));
  if (files.has_index) RETURN_IF_ERROR(checkpoint.CheckIndex(index_path, index));
  checkpoint.AddAliases(tied);
  RETURN_IF_ERROR(checkpoint.AddScales(DType::kF8E4M3));
  return checkpoint;
}

absl::Status Checkpoint::AddShard(const std::string& name) {
  const std::string path = JoinPath(directory_, name);
  absl::StatusOr<std::unique_ptr<ReadableFile>> file = storage_->Open(path);
  if (!file.ok() && has_index_ && ReasonOf(file.status()) == Reason::kSourceNotFound) {
    return Error(Reason::kIndexInvalid, JoinPath(directory_, kShardIndexName),
                 fmt::format("shard {} is not there", name), "fetch the missing shard");
  }
  RETURN_IF_ERROR(file.status());
  ASSIGN_OR_RETURN(SafetensorsHeader header, ReadHeader(**file, path));
  const int shard = static_cast<int>(shards_.size());
  for (const SafetensorsEntry& entry : header.entries) {
    const auto [known, is_new] = by_name_.emplace(entry.info.name, tensors_.size());
    if (!is_new) {
      return IndexInvalid(
          path, entry.info.name,
          fmt::format("stands in {}, too",
                      shards_[static_cast<size_t>(tensors_[known->second].shard)].name));
    }
    tensors_.push_back({entry.info, shard, entry.begin});
  }
  shards_.push_back({name, (*file)->size(), std::move(header)});
  files_.push_back(*std::move(file));
  return absl::OkStatus();
}

absl::Status Checkpoint::CheckIndex(const std::string& path, const ShardIndex& index) const {
  for (const StoredTensor& tensor : tensors_) {
    const std::string& shard = shards_[static_cast<size_t>(tensor.shard)].name;
    const auto entry = index.weight_map.find(tensor.info.name);
    if (entry == index.weight_map.end()) {
      return IndexInvalid(path, tensor.info.name,
                          fmt::format("stands in {} and not in the index", shard));
    }
    if (entry->second != shard) {
      return IndexInvalid(path, tensor.info.name,
                          fmt::format("stands in {} and by the index in {}", shard, entry->second));
    }
  }
  for (const auto& [tensor, shard] : index.weight_map) {
    if (!by_name_.contains(tensor)) {
      return IndexInvalid(path, tensor, fmt::format("not in its shard {}", shard));
    }
  }
  return absl::OkStatus();
}

void Checkpoint::AddAliases(bool tied) {
  const auto add = [this](const std::string& alias, const std::string& stored) {
    if (!by_name_.contains(alias) && by_name_.contains(stored)) aliases_.emplace(alias, stored);
  };
  for (const Shard& shard : shards_) {
    for (const auto& [alias, stored] : shard.header.metadata) add(alias, stored);
  }
  if (!tied) return;
  add("lm_head.weight", "model.embed_tokens.weight");
  add("model.embed_tokens.weight", "lm_head.weight");
}

uint64_t Checkpoint::total_bytes() const {
  uint64_t total = 0;
  for (const StoredTensor& tensor : tensors_) total += StoredSize(tensor);
  return total;
}

absl::StatusOr<const StoredTensor*> Checkpoint::Find(std::string_view name) const {
  if (const auto alias = aliases_.find(name); alias != aliases_.end()) name = alias->second;
  const auto entry = by_name_.find(name);
  if (entry == by_name_.end()) {
    return Error(Reason::kTensorMissing, path_, fmt::format("tensor {} is missing", name),
                 "check that config.json belongs to these weights");
  }
  return &tensors_[entry->second];
}

std::string Checkpoint::Where(const StoredTensor& tensor) const {
  return fmt::format("{}: tensor {}",
                     JoinPath(directory_, shards_[static_cast<size_t>(tensor.shard)].name),
                     tensor.info.name);
}

absl::Status Checkpoint::ReadStoredBytes(const StoredTensor& tensor, uint64_t offset,
                                         absl::Span<std::byte> out) const {
  const uint64_t size = StoredSize(tensor);
  if (offset > size || out.size() > size - offset) {
    return Error(Reason::kInternal, Where(tensor),
                 fmt::format("bytes {} to {} of {}", offset, offset + out.size(), size));
  }
  absl::Status status =
      files_[static_cast<size_t>(tensor.shard)]->ReadAt(tensor.begin + offset, out);
  if (status.ok()) return status;
  return Error(ReasonOf(status), Where(tensor), std::string(status.message()));
}

absl::Status Checkpoint::ReadBytes(const StoredTensor& tensor, uint64_t offset,
                                   absl::Span<std::byte> out) const {
  if (!tensor.encoding) return ReadStoredBytes(tensor, offset, out);
  return Error(Reason::kFeatureUnsupported, Where(tensor),
               "its bytes in a GGUF file are not those of the tensor",
               "give the safetensors checkpoint");
}

absl::Status Checkpoint::CheckReadable(const StoredTensor& tensor) const {
  if (IsFloatWeight(tensor.info.dtype) || tensor.scales) return absl::OkStatus();
  return Error(
      Reason::kDtypeUnsupported, Where(tensor),
      fmt::format("its dtype is {}, which cannot be read as numbers{}", NameOf(tensor.info.dtype),
                  tensor.info.dtype == DType::kF8E4M3 ? " without scales" : ""),
      "give a checkpoint in F32, F16 or BF16, or F8_E4M3 with its scales");
}

absl::StatusOr<int64_t> Checkpoint::RowLength(const StoredTensor& tensor, int64_t first,
                                              int64_t count) const {
  RETURN_IF_ERROR(CheckReadable(tensor));
  const TensorInfo& info = tensor.info;
  const int64_t rows = info.shape.size() < 2 ? 1 : info.shape.front();
  if (first < 0 || count < 0 || first > rows || count > rows - first) {
    return Error(Reason::kTensorShapeInvalid, Where(tensor),
                 fmt::format("{} rows from row {} of {}", count, first, ShapeText(info.shape)));
  }
  return rows == 0 ? 0 : ElementCount(info.shape).value_or(0) / rows;
}

absl::Status Checkpoint::ReadRows(const StoredTensor& tensor, int64_t first, int64_t count,
                                  absl::Span<float> out) const {
  ASSIGN_OR_RETURN(const int64_t columns, RowLength(tensor, first, count));
  if (std::cmp_not_equal(out.size(), count * columns)) {
    return Error(Reason::kInternal, tensor.info.name,
                 fmt::format("{} elements do not hold {} rows", out.size(), count));
  }
  if (tensor.encoding) {
    const auto read = [&](uint64_t offset, absl::Span<std::byte> bytes) {
      return ReadStoredBytes(tensor, offset, bytes);
    };
    return ReadEncodedRows(tensor, first, count, read, out);
  }
  if (tensor.scales) return ReadCodedRows(tensor, first, columns, out);
  const DType dtype = tensor.info.dtype;
  const auto element = static_cast<size_t>(SizeOf(dtype));
  const uint64_t begin = static_cast<uint64_t>(first * columns) * element;
  if (dtype == DType::kF32) {
    return ReadBytes(
        tensor, begin,
        absl::MakeSpan(reinterpret_cast<std::byte*>(out.data()), out.size() * element));
  }
  // Kept by the thread: small enough to stay in its cache until it is widened.
  thread_local std::vector<std::byte> chunk(kReadChunk * sizeof(uint16_t));
  for (size_t done = 0; done < out.size();) {
    const size_t next = std::min(kReadChunk, out.size() - done);
    const auto bytes = absl::MakeSpan(chunk.data(), next * element);
    RETURN_IF_ERROR(ReadBytes(tensor, begin + done * element, bytes));
    WidenToFloat(dtype, bytes.data(), static_cast<int64_t>(next), out.data() + done);
    done += next;
  }
  return absl::OkStatus();
}

absl::StatusOr<Matrix> Checkpoint::ReadRows(const StoredTensor& tensor, int64_t first,
                                            int64_t count) const {
  ASSIGN_OR_RETURN(const int64_t columns, RowLength(tensor, first, count));
  Matrix matrix{std::vector<float>(static_cast<size_t>(count * columns)), count, columns};
  RETURN_IF_ERROR(ReadRows(tensor, first, count, absl::MakeSpan(matrix.data)));
  return matrix;
}

absl::StatusOr<std::string> Checkpoint::TokenizerText() const {
  if (is_gguf_) return GgufTokenizerText();
  const auto file =
      std::find_if(other_files_.begin(), other_files_.end(),
                   [](const FileEntry& entry) { return entry.name == kTokenizerName; });
  if (file == other_files_.end()) {
    return Error(Reason::kSourceNotFound, kTokenizerName,
                 "the checkpoint has none, so that its text cannot be read", kGiveIds);
  }
  if (file->size > kMaxTokenizerBytes) {
    return Error(Reason::kTokenizerInvalid, kTokenizerName, "it is larger than 256 MiB", kGiveIds);
  }
  return ReadText(*storage_, JoinPath(directory_, kTokenizerName), kMaxTokenizerBytes);
}

absl::StatusOr<std::unique_ptr<ReadableFile>> Checkpoint::OpenFile(std::string_view name) const {
  const auto named = [name](const auto& file) { return file.name == name; };
  const bool is_index = has_index_ && name == kShardIndexName;
  if (!is_index && std::none_of(shards_.begin(), shards_.end(), named) &&
      std::none_of(other_files_.begin(), other_files_.end(), named)) {
    return Error(Reason::kSourceNotFound, JoinPath(directory_, name),
                 "not a file of the checkpoint");
  }
  return storage_->Open(JoinPath(directory_, name));
}

std::string Checkpoint::Version() const {
  std::string versions;
  for (const auto& file : files_) {
    if (file->Version().empty()) return "";
    versions += file->Version() + "\n";
  }
  return versions;
}

absl::Status Checkpoint::CheckUnchanged() const {
  for (const auto& file : files_) RETURN_IF_ERROR(file->CheckUnchanged());
  return absl::OkStatus();
}

}  // namespace linchpin
