#include "artifact/verify.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <set>
#include <utility>

#include "artifact/lora_adapter.h"
#include "artifact/manifest_claims.h"
#include "artifact/progress_meter.h"
#include "artifact/shard_files.h"
#include "base/parallel.h"
#include "base/status.h"
#include "fmt/format.h"

namespace linchpin {
namespace {

constexpr uint64_t kMaxManifestBytes = uint64_t{64} << 20;

// A mismatch is reported, being stopped is not one.
bool IsMismatch(const absl::Status& status) {
  return !status.ok() && ReasonOf(status) != Reason::kCancelled;
}

class Verification {
 public:
  Verification(const Storage& storage, std::string_view directory, const RunContext& context)
      : storage_(storage), directory_(directory), context_(context) {}

  absl::StatusOr<VerifyReport> Run() {
    RETURN_IF_ERROR(ReadManifest());
    RETURN_IF_ERROR(CheckFiles());
    const absl::StatusOr<Checkpoint> output =
        Checkpoint::Open(storage_, Claimed(kGgufName) ? PathOf(kGgufName) : directory_);
    if (!output.ok()) {
      Report(std::string(output.status().message()));
      return std::move(report_);
    }
    RETURN_IF_ERROR(CheckTensors(*output));
    CheckSuperWeights(*output);
    return std::move(report_);
  }

 private:
  std::string PathOf(std::string_view name) const { return fmt::format("{}/{}", directory_, name); }

  bool Claimed(std::string_view name) const {
    return std::any_of(claims_.files.begin(), claims_.files.end(),
                       [name](const FileRecord& file) { return file.name == name; });
  }

  void Report(std::string line) {
    const std::lock_guard lock(mutex_);
    report_.mismatches.push_back(std::move(line));
  }

  absl::Status ReadManifest() {
    const std::string path = PathOf(kManifestName);
    const absl::StatusOr<std::string> text = ReadText(storage_, path, kMaxManifestBytes);
    if (ReasonOf(text.status()) == Reason::kSourceNotFound) {
      return Error(Reason::kNotACheckpoint, path, "no such file, so there is nothing to verify",
                   "give a directory that linchpin compress wrote");
    }
    RETURN_IF_ERROR(text.status());
    ASSIGN_OR_RETURN(claims_, ReadManifestClaims(path, *text));
    return absl::OkStatus();
  }

  // Only names that the listing gave are opened, whatever the manifest says.
  absl::Status CheckFiles() {
    ASSIGN_OR_RETURN(const std::vector<FileEntry> entries, storage_.List(directory_));
    std::map<std::string_view, uint64_t> sizes;
    for (const FileEntry& entry : entries) sizes[entry.name] = entry.size;
    std::vector<const FileRecord*> sound;
    std::set<std::string_view> claimed;
    for (const FileRecord& file : claims_.files) {
      claimed.insert(file.name);
      const auto entry = sizes.find(file.name);
      if (entry == sizes.end()) {
        Report(fmt::format("{}: missing", file.name));
      } else if (entry->second != file.size) {
        Report(
            fmt::format("{}: {} bytes, the manifest says {}", file.name, entry->second, file.size));
      } else {
        sound.push_back(&file);
      }
    }
    for (const FileEntry& entry : entries) {
      if (entry.name.ends_with(".safetensors") && !claimed.contains(entry.name)) {
        Report(fmt::format("{}: a shard that the manifest does not name", entry.name));
      }
    }
    return CheckDigests(sound);
  }

  absl::Status CheckDigests(const std::vector<const FileRecord*>& files) {
    std::vector<std::string> lines(files.size());
    uint64_t total = 0;
    for (const FileRecord* file : files) total += file->size;
    ProgressMeter meter(Stage::kArtifact, total, context_);
    RETURN_IF_ERROR(ForEachIndex(context_.threads, files.size(), [&](size_t i) -> absl::Status {
      const absl::StatusOr<std::string> digest = DigestOf(*files[i], meter);
      if (digest.ok() && *digest == files[i]->sha256) return absl::OkStatus();
      if (!digest.ok() && !IsMismatch(digest.status())) return digest.status();
      lines[i] = digest.ok() ? fmt::format("{}: SHA-256 {}, the manifest says {}", files[i]->name,
                                           *digest, files[i]->sha256)
                             : std::string(digest.status().message());
      return absl::OkStatus();
    }));
    for (std::string& line : lines) {
      if (!line.empty()) Report(std::move(line));
    }
    report_.files = static_cast<int>(files.size());
    meter.Done(total, 0);
    return absl::OkStatus();
  }

  absl::StatusOr<std::string> DigestOf(const FileRecord& file, ProgressMeter& meter) const {
    ASSIGN_OR_RETURN(const std::unique_ptr<ReadableFile> source, storage_.Open(PathOf(file.name)));
    Sha256 digest;
    RETURN_IF_ERROR(UpdateFrom(
        [&](uint64_t at, absl::Span<std::byte> out) {
          RETURN_IF_ERROR(source->ReadAt(at, out));
          meter.Add(file.name, out.size());
          return absl::OkStatus();
        },
        0, file.size, context_, digest));
    return digest.Hex();
  }

  absl::Status CheckTensors(const Checkpoint& output) {
    std::set<std::string> expected;
    std::vector<std::string> lines(claims_.tensors.size());
    for (const TensorClaim& claim : claims_.tensors) {
      expected.insert(claim.outputs.begin(), claim.outputs.end());
    }
    RETURN_IF_ERROR(ForEachIndex(context_.threads, lines.size(), [&](size_t i) {
      const absl::Status status = CheckTensor(output, claims_.tensors[i]);
      if (IsMismatch(status)) lines[i] = std::string(status.message());
      return IsMismatch(status) ? absl::OkStatus() : status;
    }));
    for (std::string& line : lines) {
      if (!line.empty()) Report(std::move(line));
    }
    for (const StoredTensor& tensor : output.tensors()) {
      if (expected.contains(tensor.info.name)) continue;
      Report(fmt::format("{}: a tensor that the manifest does not name", tensor.info.name));
    }
    return absl::OkStatus();
  }

  absl::Status CheckTensor(const Checkpoint& output, const TensorClaim& claim) const {
    Sha256 digest;
    for (const std::string& name : claim.outputs) {
      ASSIGN_OR_RETURN(const StoredTensor* tensor, output.Find(name));
      RETURN_IF_ERROR(UpdateFrom(
          [&](uint64_t at, absl::Span<std::byte> out) {
            return output.ReadStoredBytes(*tensor, at, out);
          },
          0, StoredSize(*tensor), context_, digest));
    }
    const std::string hex = digest.Hex();
    if (hex == claim.sha256) return absl::OkStatus();
    return Error(Reason::kVerifyMismatch, claim.name,
                 fmt::format("SHA-256 {}, the manifest says {}", hex, claim.sha256));
  }

  // What a consumer gets, with the adapter where there is one.
  absl::StatusOr<float> ValueOf(const Checkpoint& output, const KeptWeight& kept) const {
    const WeightPosition& at = kept.weight.position;
    ASSIGN_OR_RETURN(const float value, ReadBack(output, at));
    if (kept.how != "lora") return value;
    ASSIGN_OR_RETURN(const float added, ReadAdapter(storage_, directory_, output, at));
    return value + added;
  }

  void CheckSuperWeights(const Checkpoint& output) {
    for (KeptWeight kept : claims_.kept) {
      const WeightPosition& at = kept.weight.position;
      const absl::StatusOr<float> value = ValueOf(output, kept);
      if (!value.ok()) {
        Report(std::string(value.status().message()));
        continue;
      }
      if (*value != kept.stored_value || kept.exact != (*value == kept.weight.value)) {
        Report(fmt::format("{}[{}, {}]: reads {}, the manifest says {}{}", at.tensor, at.row,
                           at.column, *value, kept.stored_value, kept.exact ? " and exact" : ""));
      }
      kept.stored_value = *value;
      kept.exact = *value == kept.weight.value;
      report_.kept.push_back(std::move(kept));
    }
  }

  const Storage& storage_;
  const std::string directory_;
  const RunContext& context_;
  ManifestClaims claims_;
  std::mutex mutex_;
  VerifyReport report_;
};

}  // namespace

absl::StatusOr<VerifyReport> VerifyArtifact(const Storage& storage, std::string_view directory,
                                            const RunContext& context) {
  return Verification(storage, directory, context).Run();
}

}  // namespace linchpin
