#include "artifact/digest.h"

#include <openssl/evp.h>

#include <algorithm>
#include <cstring>

#include "base/parallel.h"
#include "fmt/format.h"
#include "format/shard_index.h"

namespace linchpin {
namespace {

// Stays in a core's own cache until it is hashed.
constexpr uint64_t kChunkBytes = uint64_t{1} << 18;

ReadRange ReadFrom(std::shared_ptr<const ReadableFile> file) {
  return [file = std::move(file)](uint64_t offset, absl::Span<std::byte> out) {
    return file->ReadAt(offset, out);
  };
}

absl::StatusOr<DigestSource> SourceFile(const Checkpoint& checkpoint, const std::string& name) {
  ASSIGN_OR_RETURN(std::shared_ptr<const ReadableFile> file, checkpoint.OpenFile(name));
  const uint64_t size = file->size();
  return DigestSource{name, size, ReadFrom(std::move(file))};
}

DigestSource ConfigOf(const Checkpoint& checkpoint) {
  const std::string& text = checkpoint.config_text();
  return {"config.json", text.size(), [&text](uint64_t offset, absl::Span<std::byte> out) {
            std::memcpy(out.data(), text.data() + offset, out.size());
            return absl::OkStatus();
          }};
}

std::vector<std::string> NamesBesideShards(const Checkpoint& checkpoint) {
  std::vector<std::string> names;
  for (const FileEntry& file : checkpoint.other_files()) names.push_back(file.name);
  if (checkpoint.has_index()) names.emplace_back(kShardIndexName);
  return names;
}

std::vector<std::string> AllNames(const Checkpoint& checkpoint) {
  std::vector<std::string> names = NamesBesideShards(checkpoint);
  for (const Shard& shard : checkpoint.shards()) names.push_back(shard.name);
  return names;
}

absl::StatusOr<std::vector<DigestSource>> FilesOf(const Checkpoint& checkpoint,
                                                  const std::vector<std::string>& names,
                                                  bool with_config) {
  std::vector<DigestSource> files;
  // That of a GGUF file is no file.
  if (with_config && !checkpoint.is_gguf()) files.push_back(ConfigOf(checkpoint));
  for (const std::string& name : names) {
    ASSIGN_OR_RETURN(DigestSource file, SourceFile(checkpoint, name));
    files.push_back(std::move(file));
  }
  return files;
}

absl::StatusOr<std::vector<FileRecord>> DigestNamed(const Checkpoint& checkpoint,
                                                    const std::vector<std::string>& names,
                                                    bool with_config, const RunContext& context,
                                                    const std::vector<FileRecord>& known = {}) {
  ASSIGN_OR_RETURN(std::vector<DigestSource> files, FilesOf(checkpoint, names, with_config));
  uint64_t total = 0;
  for (DigestSource& file : files) {
    file.sha256 = DigestIn(known, file.name, file.size);
    if (file.sha256.empty()) total += file.size;
  }
  ProgressMeter meter(Stage::kCheckpoint, total, context);
  return DigestFiles(files, context, meter);
}

}  // namespace

std::string DigestIn(const std::vector<FileRecord>& records, std::string_view name, uint64_t size) {
  const auto found = std::find_if(records.begin(), records.end(), [&](const FileRecord& record) {
    return record.size == size && record.name == name;
  });
  return found == records.end() ? "" : found->sha256;
}

struct Sha256::State {
  struct Free {
    void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
  };
  std::unique_ptr<EVP_MD_CTX, Free> context{EVP_MD_CTX_new()};
};

Sha256::Sha256() : state_(std::make_unique<State>()) {
  EVP_DigestInit_ex(state_->context.get(), EVP_sha256(), nullptr);
}
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;
Sha256::~Sha256() = default;

void Sha256::Update(absl::Span<const std::byte> bytes) {
  EVP_DigestUpdate(state_->context.get(), bytes.data(), bytes.size());
}

std::string Sha256::Hex() {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  EVP_DigestFinal_ex(state_->context.get(), digest, &size);
  std::string hex;
  for (unsigned int i = 0; i < size; ++i) hex += fmt::format("{:02x}", digest[i]);
  return hex;
}

std::string Sha256Hex(std::string_view text) {
  Sha256 digest;
  digest.Update({reinterpret_cast<const std::byte*>(text.data()), text.size()});
  return digest.Hex();
}

absl::Status UpdateFrom(const ReadRange& read, uint64_t begin, uint64_t size,
                        const RunContext& context, Sha256& digest) {
  std::vector<std::byte> buffer(std::min(size, kChunkBytes));
  for (uint64_t done = 0; done < size; done += kChunkBytes) {
    RETURN_IF_ERROR(context.Check());
    const absl::Span<std::byte> chunk(buffer.data(), std::min(kChunkBytes, size - done));
    RETURN_IF_ERROR(read(begin + done, chunk));
    digest.Update(chunk);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<FileRecord>> DigestFiles(const std::vector<DigestSource>& files,
                                                    const RunContext& context,
                                                    ProgressMeter& meter) {
  std::vector<FileRecord> records(files.size());
  RETURN_IF_ERROR(ForEachIndex(context.threads, files.size(), [&](size_t i) {
    records[i] = {files[i].name, files[i].size, files[i].sha256};
    if (!files[i].sha256.empty()) return absl::OkStatus();
    Sha256 digest;
    RETURN_IF_ERROR(UpdateFrom(files[i].read, 0, files[i].size, context, digest));
    records[i].sha256 = digest.Hex();
    meter.Add(files[i].name, files[i].size);
    return absl::OkStatus();
  }));
  std::sort(records.begin(), records.end(), ByName);
  return records;
}

absl::StatusOr<std::vector<FileRecord>> DigestCheckpoint(const Checkpoint& checkpoint,
                                                         const RunContext& context,
                                                         const std::vector<FileRecord>& known) {
  return DigestNamed(checkpoint, AllNames(checkpoint), /*with_config=*/true, context, known);
}

absl::StatusOr<std::vector<FileRecord>> DigestBesideShards(const Checkpoint& checkpoint,
                                                           const RunContext& context) {
  return DigestNamed(checkpoint, NamesBesideShards(checkpoint), /*with_config=*/true, context);
}

absl::StatusOr<std::vector<FileRecord>> DigestShard(const Checkpoint& checkpoint, int index,
                                                    const RunContext& context) {
  return DigestNamed(checkpoint, {checkpoint.shards()[static_cast<size_t>(index)].name},
                     /*with_config=*/false, context);
}

absl::StatusOr<std::vector<FileRecord>> ListCheckpoint(const Checkpoint& checkpoint) {
  ASSIGN_OR_RETURN(const std::vector<DigestSource> files,
                   FilesOf(checkpoint, AllNames(checkpoint), /*with_config=*/true));
  std::vector<FileRecord> records;
  for (const DigestSource& file : files) records.push_back({file.name, file.size, ""});
  std::sort(records.begin(), records.end(), ByName);
  return records;
}

}  // namespace linchpin
