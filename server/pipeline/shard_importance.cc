#include "pipeline/shard_importance.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "artifact/digest.h"
#include "base/status.h"
#include "fmt/format.h"
#include "format/safetensors.h"

namespace linchpin {
namespace {

constexpr std::string_view kFileName = "importance.safetensors";
constexpr std::string_view kJobKey = "job_key";
constexpr std::string_view kOrigin = "origin";
constexpr std::string_view kTokens = "tokens";

std::string DigestKey(int shard) { return fmt::format("sha256-{:05}", shard); }

absl::Span<const std::byte> BytesOf(const std::string& text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

absl::Status NotTheJobs(const std::string& path) {
  return Error(Reason::kDigestMismatch, path, "it is not what the job's preparation wrote",
               "prepare the job again and give its workers the new one");
}

// The vectors of one shard, in the order of its tensors.
struct Part {
  std::vector<TensorInfo> infos;
  std::vector<std::byte> bytes;
};

std::vector<Part> PartsOf(const Checkpoint& checkpoint, const Importance& importance) {
  std::vector<Part> parts(checkpoint.shards().size());
  for (const StoredTensor& tensor : checkpoint.tensors()) {
    const InputStatistics* statistics = FindImportance(importance, tensor.info.name);
    if (statistics == nullptr) continue;
    const std::vector<float>& squares = statistics->mean_squares;
    Part& part = parts[static_cast<size_t>(tensor.shard)];
    part.infos.push_back({tensor.info.name, DType::kF32, {static_cast<int64_t>(squares.size())}});
    const auto* bytes = reinterpret_cast<const std::byte*>(squares.data());
    part.bytes.insert(part.bytes.end(), bytes, bytes + squares.size() * sizeof(float));
  }
  return parts;
}

std::map<std::string, std::string> MetadataOf(const ShardJob& job, const std::vector<Part>& parts,
                                              const CalibrationRecord& calibration) {
  std::map<std::string, std::string> metadata = {
      {std::string(kJobKey), job.key},
      {std::string(kOrigin), std::string(NameOf(calibration.origin))},
      {std::string(kTokens), std::to_string(calibration.tokens)}};
  for (size_t i = 0; i < parts.size(); ++i) {
    Sha256 digest;
    digest.Update(parts[i].bytes);
    metadata[DigestKey(static_cast<int>(i))] = digest.Hex();
  }
  return metadata;
}

// Prefix and JSON of the file, as they stand in it.
absl::StatusOr<std::string> ReadHeader(const ReadableFile& file, const std::string& path) {
  std::string header(std::min(file.size(), kSafetensorsPrefixBytes), '\0');
  const auto bytes = [&header](size_t from) {
    return absl::MakeSpan(reinterpret_cast<std::byte*>(header.data()) + from, header.size() - from);
  };
  RETURN_IF_ERROR(file.ReadAt(0, bytes(0)));
  ASSIGN_OR_RETURN(const uint64_t length, SafetensorsHeaderLength(path, bytes(0), file.size()));
  header.resize(kSafetensorsPrefixBytes + length);
  RETURN_IF_ERROR(file.ReadAt(kSafetensorsPrefixBytes, bytes(kSafetensorsPrefixBytes)));
  return header;
}

absl::StatusOr<CalibrationRecord> CalibrationIn(const SafetensorsHeader& header,
                                                const std::string& path) {
  CalibrationRecord record;
  const auto origin = header.metadata.find(std::string(kOrigin));
  const auto tokens = header.metadata.find(std::string(kTokens));
  if (origin == header.metadata.end() || tokens == header.metadata.end()) return NotTheJobs(path);
  for (const TokenOrigin each :
       {TokenOrigin::kGiven, TokenOrigin::kBuiltInText, TokenOrigin::kBuiltInIds}) {
    if (NameOf(each) == origin->second) record.origin = each;
  }
  const std::string& text = tokens->second;
  std::from_chars(text.data(), text.data() + text.size(), record.tokens);
  return record;
}

// A number of float32 per channel: what uses it goes by the length of the vector.
bool IsOf(const TensorInfo& vector, const StoredTensor& tensor) {
  const std::vector<int64_t>& sides = tensor.info.shape;
  return vector.dtype == DType::kF32 && vector.shape.size() == 1 &&
         std::find(sides.begin(), sides.end(), vector.shape[0]) != sides.end();
}

// Reads one after the other, which is how they lie in the file, and digests them.
absl::Status ReadPart(const ReadableFile& file, const std::string& path,
                      const std::vector<SafetensorsEntry>& entries, const std::string& sha256,
                      Importance& importance) {
  Sha256 digest;
  for (const SafetensorsEntry& entry : entries) {
    auto statistics = std::make_shared<InputStatistics>();
    statistics->mean_squares.resize((entry.end - entry.begin) / sizeof(float));
    const absl::Span<std::byte> bytes(reinterpret_cast<std::byte*>(statistics->mean_squares.data()),
                                      entry.end - entry.begin);
    RETURN_IF_ERROR(file.ReadAt(entry.begin, bytes));
    digest.Update(bytes);
    importance[entry.info.name] = std::move(statistics);
  }
  return digest.Hex() == sha256 ? absl::OkStatus() : NotTheJobs(path);
}

// Adds vectors of zeros, those of the same length once.
void AddNames(const std::vector<SafetensorsEntry>& entries, Importance& importance) {
  std::map<uint64_t, std::shared_ptr<const InputStatistics>> by_size;
  for (const SafetensorsEntry& entry : entries) {
    const uint64_t channels = (entry.end - entry.begin) / sizeof(float);
    auto& zeros = by_size[channels];
    if (zeros == nullptr) {
      zeros = std::make_shared<InputStatistics>(InputStatistics{std::vector<float>(channels), 0});
    }
    importance[entry.info.name] = zeros;
  }
}

}  // namespace

std::string ImportanceDirectory(const ShardJob& job) { return JobDirectory(job, "importance"); }

absl::StatusOr<std::string> WriteImportance(const Storage& storage, const ShardJob& job,
                                            const Checkpoint& checkpoint,
                                            const ShardImportance& measured,
                                            const RunContext& context) {
  const std::vector<Part> parts = PartsOf(checkpoint, measured.importance);
  std::vector<TensorInfo> infos;
  for (const Part& part : parts) infos.insert(infos.end(), part.infos.begin(), part.infos.end());
  const SafetensorsLayout layout =
      LayOutSafetensors(infos, MetadataOf(job, parts, measured.calibration));
  const std::string digest = Sha256Hex(layout.header);

  const std::string directory = ImportanceDirectory(job);
  const std::string path = fmt::format("{}/{}", directory, kFileName);
  if (const auto there = storage.Open(path); there.ok() && (*there)->size() == layout.file_size) {
    const auto header = ReadHeader(**there, path);
    if (header.ok() && *header == layout.header) return digest;
  }
  ASSIGN_OR_RETURN(const auto output, storage.CreateDirectory(directory, /*overwrite=*/true));
  ASSIGN_OR_RETURN(const auto file, output->CreateFile(kFileName, layout.file_size));
  RETURN_IF_ERROR(file->WriteAt(0, BytesOf(layout.header)));
  uint64_t at = layout.header.size();
  for (const Part& part : parts) {
    RETURN_IF_ERROR(context.Check());
    RETURN_IF_ERROR(file->WriteAt(at, part.bytes));
    at += part.bytes.size();
  }
  RETURN_IF_ERROR(output->Commit());
  return digest;
}

absl::StatusOr<ShardImportance> ReadImportance(const Storage& storage, const ShardJob& job,
                                               const Checkpoint& checkpoint,
                                               std::optional<int> index) {
  const std::string path = fmt::format("{}/{}", ImportanceDirectory(job), kFileName);
  const auto file = storage.Open(path);
  if (ReasonOf(file.status()) == Reason::kSourceNotFound) {
    return Error(Reason::kSourceNotFound, path, "the job was not prepared, or is finished",
                 "prepare it again");
  }
  RETURN_IF_ERROR(file.status());
  ASSIGN_OR_RETURN(const std::string text, ReadHeader(**file, path));
  if (Sha256Hex(text) != job.importance_sha256) return NotTheJobs(path);
  ASSIGN_OR_RETURN(
      const SafetensorsHeader header,
      ParseSafetensorsHeader(path, text.substr(kSafetensorsPrefixBytes), (*file)->size()));
  ShardImportance read;
  ASSIGN_OR_RETURN(read.calibration, CalibrationIn(header, path));
  std::vector<SafetensorsEntry> own, others;
  for (const SafetensorsEntry& entry : header.entries) {
    const auto tensor = checkpoint.Find(entry.info.name);
    if (!tensor.ok() || !IsOf(entry.info, **tensor)) return NotTheJobs(path);
    ((*tensor)->shard == index ? own : others).push_back(entry);
  }
  AddNames(others, read.importance);
  if (!index) return read;
  const auto sha256 = header.metadata.find(DigestKey(*index));
  if (sha256 == header.metadata.end()) return NotTheJobs(path);
  RETURN_IF_ERROR(ReadPart(**file, path, own, sha256->second, read.importance));
  return read;
}

}  // namespace linchpin
