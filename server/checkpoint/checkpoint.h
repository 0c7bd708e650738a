// Opens a checkpoint and hands out its tensors, whatever its shards.
//
// A checkpoint is a directory with `config.json` and either `model.safetensors`
// or `model.safetensors.index.json` and the shards it names; a single
// `.safetensors` file with a `config.json` beside it; or a `.gguf` file (of a
// split model the first), which is shown as the Hugging Face model that it was
// made from.  Sources are opened read-only and never executed: no pickle, no code.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "checkpoint/compression_config.h"
#include "checkpoint/stored_tensor.h"
#include "format/safetensors.h"
#include "format/shard_index.h"
#include "storage/storage.h"
#include "tensor/matrix.h"
#include "tensor/tensor_info.h"

namespace linchpin {

struct GgufFile;
struct GgufRopeFactors;

struct Shard {
  std::string name;  // file name within the checkpoint
  uint64_t size = 0;
  SafetensorsHeader header;  // empty for a GGUF file
};

// Thread-safe: every method is const and reads at its own offset.
class Checkpoint {
 public:
  // Reads headers, index and config only.  NOT_A_CHECKPOINT where the files are
  // not there; INDEX_INVALID where index and shards disagree; the errors of
  // format/ for a malformed header, and of GgufTensors and GgufConfig for a
  // GGUF file.  `storage` must outlive the result.
  static absl::StatusOr<Checkpoint> Open(const Storage& storage, std::string_view path);

  // From now on shows a compressed-tensors model as the dense one that consumers
  // make of it in float32: codes of 4 or 8 bits times scales; what they unpack while
  // they load, packed experts and where there are zero points, is rounded to the
  // scales' dtype.
  // Returns what its config said; a model that is not compressed stays as it is.
  // TENSOR_SHAPE_INVALID for tensors that do not fit each other, and the errors of
  // CompressionConfig::Parse.
  absl::StatusOr<CompressionConfig> Unpack();

  const std::string& path() const { return path_; }
  // The text of config.json; for a GGUF file what it would say.
  const std::string& config_text() const { return config_text_; }
  const std::vector<Shard>& shards() const { return shards_; }
  // True if the source has an index file.
  bool has_index() const { return has_index_; }
  // True if the source is a GGUF file: its tensors may be encoded.
  bool is_gguf() const { return is_gguf_; }
  // All stored tensors, by shard and offset.  Aliases are not listed.
  const std::vector<StoredTensor>& tensors() const { return tensors_; }
  // Files that are neither a shard nor the index nor config.json (tokenizer,
  // licence, ...).  Weights that the checkpoint does not consist of, in
  // safetensors or any other format, are left out; so is all that lies beside
  // a single file.
  const std::vector<FileEntry>& other_files() const { return other_files_; }
  uint64_t total_bytes() const;  // of all tensors, as stored

  // Finds a tensor by name or through an alias: a `__metadata__` entry
  // "alias": "stored name", or the tied pair lm_head.weight and
  // model.embed_tokens.weight in either direction.  TENSOR_MISSING otherwise.
  absl::StatusOr<const StoredTensor*> Find(std::string_view name) const;
  bool Has(std::string_view name) const { return Find(name).ok(); }

  // Reads raw bytes [offset, offset + out.size()) of the tensor;
  // FEATURE_UNSUPPORTED for an encoded one, whose bytes are not what it is.
  absl::Status ReadBytes(const StoredTensor& tensor, uint64_t offset,
                         absl::Span<std::byte> out) const;
  // The same of what lies in the file, encoded or not: StoredSize bytes.
  absl::Status ReadStoredBytes(const StoredTensor& tensor, uint64_t offset,
                               absl::Span<std::byte> out) const;
  // Rows [first, first + count) of a matrix (or elements of a vector as one
  // row), decoded to float32.  DTYPE_UNSUPPORTED unless F32, F16, BF16 or
  // codes with scales (F8_E4M3; after Unpack others, too); TENSOR_SHAPE_INVALID for rows that it
  // does not have.
  absl::StatusOr<Matrix> ReadRows(const StoredTensor& tensor, int64_t first, int64_t count) const;
  // The same into `out`, which holds exactly these rows.
  absl::Status ReadRows(const StoredTensor& tensor, int64_t first, int64_t count,
                        absl::Span<float> out) const;

  // DTYPE_UNSUPPORTED naming the tensor if ReadRows cannot read it.
  absl::Status CheckReadable(const StoredTensor& tensor) const;

  // The text of tokenizer.json; for a GGUF file what it would say.
  // SOURCE_NOT_FOUND where there is none; TOKENIZER_INVALID for more than 256
  // MiB; the errors of GgufTokenizerJson.
  absl::StatusOr<std::string> TokenizerText() const;

  // Opens a file of the checkpoint by the name `other_files` or `shards` gives
  // it, or its index.
  absl::StatusOr<std::unique_ptr<ReadableFile>> OpenFile(std::string_view name) const;

  // SOURCE_CHANGED if a shard changed since it was opened.
  absl::Status CheckUnchanged() const;
  // Of the files of weights as they were opened (ReadableFile::Version); empty where
  // that of one is.
  std::string Version() const;
  // Of one of them.
  std::string Version(int shard) const { return files_[static_cast<size_t>(shard)]->Version(); }

 private:
  Checkpoint() = default;

  // Elements of one row; an error unless `count` rows from `first` can be read as numbers.
  absl::StatusOr<int64_t> RowLength(const StoredTensor& tensor, int64_t first, int64_t count) const;
  // "directory/shard: tensor name", for errors.
  std::string Where(const StoredTensor& tensor) const;
  // Rows of a weight that is stored as codes with scales.
  absl::Status ReadCodedRows(const StoredTensor& tensor, int64_t first, int64_t columns,
                             absl::Span<float> out) const;
  absl::StatusOr<Matrix> ScalesOfRows(const StoredTensor& tensor, int64_t first,
                                      int64_t count) const;
  absl::Status SubtractZeroPoints(const StoredTensor& tensor, int64_t first, int64_t columns,
                                  absl::Span<float> rows) const;
  static absl::StatusOr<Checkpoint> OpenGguf(const Storage& storage, std::string_view path);
  absl::Status AddGgufFile(const std::string& name, std::vector<GgufFile>& files,
                           GgufRopeFactors& factors);
  absl::StatusOr<std::string> GgufTokenizerText() const;
  absl::Status AddShard(const std::string& name);
  absl::Status CheckIndex(const std::string& path, const ShardIndex& index) const;
  void AddAliases(bool tied);
  absl::Status AddScales(DType dtype);
  absl::Status UnpackTensor(size_t packed);
  absl::StatusOr<std::vector<int64_t>> UnpackedShape(const StoredTensor& packed,
                                                     std::string_view weight) const;

  const Storage* storage_ = nullptr;
  std::string path_;
  std::string directory_;
  std::string config_text_;
  bool has_index_ = false;
  bool is_gguf_ = false;
  std::vector<Shard> shards_;
  std::vector<std::unique_ptr<ReadableFile>> files_;  // one per shard
  std::vector<StoredTensor> tensors_;
  std::map<std::string, size_t, std::less<>> by_name_;       // into tensors_
  std::map<std::string, std::string, std::less<>> aliases_;  // alias -> stored name
  std::vector<FileEntry> other_files_;
};

}  // namespace linchpin
