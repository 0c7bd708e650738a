#include "pipeline/source_record.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "base/status.h"
#include "checkpoint/checkpoint_files.h"
#include "fmt/format.h"
#include "format/json.h"
#include "format/little_endian.h"

namespace linchpin {
namespace {

constexpr std::string_view kFileName = "source";
constexpr size_t kPrefixBytes = 8;
constexpr uint64_t kMaxBytes = uint64_t{256} << 20;

absl::Status OnlyRead(std::string_view path) {
  return Error(Reason::kFeatureUnsupported, path, "a source is only read");
}

absl::Status Changed(std::string_view path) {
  return Error(Reason::kSourceChanged, path, "it is not what it was when the job was planned",
               "plan the job again");
}

std::string_view TextOf(absl::Span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// A file of a record: the length of its JSON in 8 bytes, little-endian, that JSON, and
// the bytes of all ranges in its order.  Empty for names that are not UTF-8.
std::string Serialize(const SourceRecord& record) {
  Json files = Json::array(), listings = Json::array(), directories = Json::array();
  std::string bytes;
  for (const auto& [path, file] : record.files) {
    Json ranges = Json::array();
    for (const auto& [range, content] : file.ranges) {
      ranges.push_back({range.first, range.second});
      bytes += content;
    }
    files.push_back({path, file.size, std::move(ranges)});
  }
  for (const auto& [path, entries] : record.listings) {
    Json names = Json::array();
    for (const FileEntry& entry : entries) names.push_back({entry.name, entry.size});
    listings.push_back({path, std::move(names)});
  }
  for (const auto& [path, is] : record.directories) directories.push_back({path, is});
  const Json json = {{"files", std::move(files)},
                     {"listings", std::move(listings)},
                     {"directories", std::move(directories)}};
  try {
    const std::string text = json.dump();
    return LittleEndian(uint64_t{text.size()}) + text + bytes;
  } catch (const Json::exception&) {
    return "";
  }
}

// The first `count` bytes of `text`, which is then behind them; throws where it is shorter.
std::string_view TakeBytes(std::string_view& text, uint64_t count) {
  if (count > text.size()) throw std::out_of_range("a record that is cut short");
  const std::string_view taken = text.substr(0, count);
  text.remove_prefix(count);
  return taken;
}

// Throws for anything else than Serialize makes.
SourceRecord Parse(std::string_view text) {
  const uint64_t length = LoadLittleEndian(TakeBytes(text, kPrefixBytes));
  const Json json =
      ParseJson(kFileName, TakeBytes(text, length), Reason::kConfigInvalid).value_or(Json());
  SourceRecord record;
  for (const Json& each : json.at("files")) {
    SourceRecord::File& file = record.files[each.at(0).get<std::string>()];
    file.size = each.at(1).get<uint64_t>();
    for (const Json& range : each.at(2)) {
      const std::pair<uint64_t, uint64_t> place(range.at(0), range.at(1));
      file.ranges[place] = TakeBytes(text, place.second);
    }
  }
  for (const Json& each : json.at("listings")) {
    std::vector<FileEntry>& entries = record.listings[each.at(0).get<std::string>()];
    for (const Json& entry : each.at(1)) {
      entries.push_back({entry.at(0).get<std::string>(), entry.at(1).get<uint64_t>()});
    }
  }
  for (const Json& each : json.at("directories")) {
    record.directories[each.at(0).get<std::string>()] = each.at(1).get<bool>();
  }
  return record;
}

std::string PathOf(const ShardJob& job) {
  return fmt::format("{}/{}", SourceRecordDirectory(job), kFileName);
}

}  // namespace

class RecordingStorage::File : public ReadableFile {
 public:
  File(std::unique_ptr<ReadableFile> file, std::string path, const RecordingStorage& storage)
      : file_(std::move(file)), path_(std::move(path)), storage_(storage) {}
  uint64_t size() const override { return file_->size(); }
  absl::Status ReadAt(uint64_t offset, absl::Span<std::byte> out) const override {
    RETURN_IF_ERROR(file_->ReadAt(offset, out));
    const std::lock_guard lock(storage_.mutex_);
    if (!storage_.recording_) return absl::OkStatus();
    storage_.record_.files[path_].ranges[{offset, out.size()}] = std::string(TextOf(out));
    return absl::OkStatus();
  }
  absl::Status CheckUnchanged() const override { return file_->CheckUnchanged(); }
  std::string Version() const override { return file_->Version(); }

 private:
  const std::unique_ptr<ReadableFile> file_;
  const std::string path_;
  const RecordingStorage& storage_;
};

SourceRecord RecordingStorage::Take() {
  const std::lock_guard lock(mutex_);
  recording_ = false;
  return std::move(record_);
}

absl::StatusOr<std::unique_ptr<ReadableFile>> RecordingStorage::Open(std::string_view path) const {
  ASSIGN_OR_RETURN(auto file, storage_.Open(path));
  const std::lock_guard lock(mutex_);
  if (recording_) record_.files[std::string(path)].size = file->size();
  return std::make_unique<File>(std::move(file), std::string(path), *this);
}

absl::StatusOr<std::vector<FileEntry>> RecordingStorage::List(std::string_view directory) const {
  ASSIGN_OR_RETURN(std::vector<FileEntry> entries, storage_.List(directory));
  const std::lock_guard lock(mutex_);
  if (recording_) record_.listings[std::string(directory)] = entries;
  return entries;
}

absl::StatusOr<bool> RecordingStorage::IsDirectory(std::string_view path) const {
  ASSIGN_OR_RETURN(const bool is, storage_.IsDirectory(path));
  const std::lock_guard lock(mutex_);
  if (recording_) record_.directories[std::string(path)] = is;
  return is;
}

absl::StatusOr<std::unique_ptr<OutputDirectory>> RecordingStorage::CreateDirectory(
    std::string_view path, bool /*overwrite*/) const {
  return OnlyRead(path);
}

// Opened for what was not recorded, once.
class ReplayedStorage::File : public ReadableFile {
 public:
  File(const ReplayedStorage& storage, std::string path, const SourceRecord::File& recorded)
      : storage_(storage), path_(std::move(path)), recorded_(recorded) {}

  uint64_t size() const override { return recorded_.size; }
  absl::Status ReadAt(uint64_t offset, absl::Span<std::byte> out) const override {
    const auto range = recorded_.ranges.find({offset, out.size()});
    if (range != recorded_.ranges.end()) {
      std::memcpy(out.data(), range->second.data(), out.size());
      return absl::OkStatus();
    }
    ASSIGN_OR_RETURN(const ReadableFile* const file, Opened());
    return file->ReadAt(offset, out);
  }
  absl::Status CheckUnchanged() const override {
    const std::lock_guard lock(mutex_);
    return file_ == nullptr ? absl::OkStatus() : file_->CheckUnchanged();
  }
  std::string Version() const override {
    const auto file = Opened();
    return file.ok() ? (*file)->Version() : "";
  }

 private:
  absl::StatusOr<const ReadableFile*> Opened() const {
    const std::lock_guard lock(mutex_);
    if (file_ == nullptr) {
      ASSIGN_OR_RETURN(auto file, storage_.storage_.Open(path_));
      if (file->size() != recorded_.size) return Changed(path_);
      file_ = std::move(file);
    }
    return file_.get();
  }

  const ReplayedStorage& storage_;
  const std::string path_;
  const SourceRecord::File& recorded_;
  mutable std::mutex mutex_;
  mutable std::unique_ptr<ReadableFile> file_;  // guarded by mutex_
};

absl::Status ReplayedStorage::CheckFile(std::string_view name) const {
  for (const auto& [path, recorded] : record_.files) {
    if (FileNameOf(path) != name) continue;
    ASSIGN_OR_RETURN(const auto file, storage_.Open(path));
    if (file->size() != recorded.size) return Changed(path);
    for (const auto& [range, bytes] : recorded.ranges) {
      std::vector<std::byte> now(bytes.size());
      RETURN_IF_ERROR(file->ReadAt(range.first, absl::MakeSpan(now)));
      if (TextOf(now) != bytes) return Changed(path);
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<ReadableFile>> ReplayedStorage::Open(std::string_view path) const {
  const auto recorded = record_.files.find(path);
  if (recorded == record_.files.end()) return storage_.Open(path);
  return std::make_unique<File>(*this, std::string(path), recorded->second);
}

absl::StatusOr<std::vector<FileEntry>> ReplayedStorage::List(std::string_view directory) const {
  const auto recorded = record_.listings.find(directory);
  if (recorded == record_.listings.end()) return storage_.List(directory);
  return recorded->second;
}

absl::StatusOr<bool> ReplayedStorage::IsDirectory(std::string_view path) const {
  const auto recorded = record_.directories.find(path);
  if (recorded == record_.directories.end()) return storage_.IsDirectory(path);
  return recorded->second;
}

absl::StatusOr<std::unique_ptr<OutputDirectory>> ReplayedStorage::CreateDirectory(
    std::string_view path, bool /*overwrite*/) const {
  return OnlyRead(path);
}

std::string SourceRecordDirectory(const ShardJob& job) { return JobDirectory(job, "source"); }

absl::Status WriteSourceRecord(const Storage& storage, const ShardJob& job,
                               const SourceRecord& record) {
  const std::string text = Serialize(record);
  if (text.empty() || text.size() > kMaxBytes) return absl::OkStatus();
  if (const auto there = ReadText(storage, PathOf(job), kMaxBytes); there.ok() && *there == text) {
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const auto output,
                   storage.CreateDirectory(SourceRecordDirectory(job), /*overwrite=*/true));
  RETURN_IF_ERROR(WriteText(*output, kFileName, text));
  return output->Commit();
}

std::unique_ptr<ReplayedStorage> ReplaySource(const Storage& storage, const ShardJob& job) {
  const auto text = ReadText(storage, PathOf(job), kMaxBytes);
  if (!text.ok()) return nullptr;
  try {
    return std::make_unique<ReplayedStorage>(storage, Parse(*text));
  } catch (const std::exception&) {
    return nullptr;
  }
}

}  // namespace linchpin
