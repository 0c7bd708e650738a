#include "storage/s3/s3_output.h"

#include <algorithm>
#include <chrono>
#include <random>

#include "base/parallel.h"
#include "base/status.h"
#include "fmt/format.h"
#include "storage/relative_name.h"

namespace linchpin {
namespace {

using std::chrono::hours;
using std::chrono::minutes;

constexpr minutes kLease{10};
constexpr hours kStale{24};
constexpr int kSideBySide = 4;
constexpr int kCleaningAttempts = 2;
constexpr std::string_view kAbandoned = "abandoned";

class S3WritableFile : public WritableFile {
 public:
  explicit S3WritableFile(std::shared_ptr<S3OutputFile> file) : file_(std::move(file)) {}
  absl::Status WriteAt(uint64_t offset, absl::Span<const std::byte> bytes) override {
    return file_->WriteAt(offset, bytes);
  }
  absl::Status ReadAt(uint64_t offset, absl::Span<std::byte> out) const override {
    return file_->ReadAt(offset, out);
  }
  bool ReadableWhileWritten() const override { return false; }

 private:
  const std::shared_ptr<S3OutputFile> file_;
};

std::string RandomId() {
  std::random_device device;
  return fmt::format("{:08x}{:08x}", device(), device());
}

absl::Span<const std::byte> BytesOf(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

absl::Status AlreadyExists(const Uri& uri) {
  return Error(Reason::kOutputExists, uri.Text(), "already exists",
               "choose another output or ask to overwrite");
}

// OK where no object is called like the directory.
absl::Status CheckNoFile(const S3Client& client, const Uri& directory) {
  const absl::Status status = client.Head(directory).status();
  if (status.ok()) {
    return Error(Reason::kOutputExists, directory.Text(), "exists and is not a directory",
                 "choose another output");
  }
  return ReasonOf(status) == Reason::kSourceNotFound ? absl::OkStatus() : status;
}

// The text of the commit mark; SOURCE_NOT_FOUND where none is set.
absl::StatusOr<std::string> ReadMark(const S3Client& client, const Uri& mark) {
  const HttpRequest request = client.Request(mark, "GET");
  ASSIGN_OR_RETURN(HttpResponse response, client.http().Send(request));
  if (!response.ok()) return ErrorOf(request, response);
  return std::move(response.body);
}

// False where no mark stands; true for one whose writer died or gave up;
// STORAGE_FAILED, which passes with time, for one whose writer may be at work.
absl::StatusOr<bool> IsLeft(const S3Client& client, const Uri& mark) {
  const absl::StatusOr<S3Object> object = client.Head(mark);
  if (ReasonOf(object.status()) == Reason::kSourceNotFound) return false;
  RETURN_IF_ERROR(object.status());
  const auto now = object->now.value_or(std::chrono::system_clock::now());
  if (object->modified && now - *object->modified > kLease) return true;
  const absl::StatusOr<std::string> text = ReadMark(client, mark);
  if (ReasonOf(text.status()) == Reason::kSourceNotFound) return false;
  RETURN_IF_ERROR(text.status());
  if (*text == kAbandoned) return true;
  return Error(Reason::kStorageFailed, mark.Text(), "another writer is putting its output in place",
               "try again later: if that writer has died its mark is void after ten minutes");
}

}  // namespace

S3Output::S3Output(S3Client client, Uri directory, bool overwrite,
                   std::shared_ptr<BlockCache> cache)
    : client_(std::move(client)),
      cleaner_(client_.ForCleaning(kCleaningAttempts)),
      directory_(std::move(directory)),
      overwrite_(overwrite),
      cache_(std::move(cache)),
      id_(RandomId()) {}

absl::StatusOr<std::unique_ptr<OutputDirectory>> S3Output::Create(
    S3Client client, Uri directory, bool overwrite, std::shared_ptr<BlockCache> cache) {
  std::unique_ptr<S3Output> output(
      new S3Output(std::move(client), std::move(directory), overwrite, std::move(cache)));
  RETURN_IF_ERROR(output->CheckFree());
  return output;
}

absl::Status S3Output::File::Publish(const S3Client& client, const Uri& place, bool create) const {
  return data != nullptr ? data->Publish(client, place, create)
                         : client.Copy(taken, taken_bytes, place, create);
}

S3Output::~S3Output() {
  if (!committed_) DiscardAll();
}

void S3Output::DiscardAll() {
  for (const File& file : files_) {
    if (file.data != nullptr) file.data->Discard(cleaner_);
  }
}

absl::Status S3Output::CheckFree() {
  const absl::Status file = CheckNoFile(client_, directory_);
  if (!overwrite_ && ReasonOf(file) == Reason::kOutputExists) return AlreadyExists(directory_);
  RETURN_IF_ERROR(file);
  ASSIGN_OR_RETURN(const S3Listing listing, ListDirectory(client_, directory_));
  ASSIGN_OR_RETURN(const bool left, IsLeft(client_, Below(directory_, kCommitMark)));
  if (listing.visible && !overwrite_ && !left) return AlreadyExists(directory_);
  RemoveStale(listing, std::chrono::system_clock::now());
  return absl::OkStatus();
}

void S3Output::RemoveStale(const S3Listing& listing, SystemTime now) const {
  for (const S3Page::Object& object : listing.objects) {
    // An object without a time has one in the far future.
    if (object.key.starts_with(kStagePrefix) && object.modified < now - kStale) {
      cleaner_.Delete(Below(directory_, object.key)).IgnoreError();
    }
  }
}

absl::StatusOr<std::unique_ptr<WritableFile>> S3Output::CreateFile(std::string_view name,
                                                                   uint64_t size) {
  RETURN_IF_ERROR(CheckRelativeName(name));
  const Uri stage = Below(directory_, fmt::format("{}{}/{}", kStagePrefix, id_, name));
  ASSIGN_OR_RETURN(const auto file, S3OutputFile::Create(client_, stage, size, cache_));
  RETURN_IF_ERROR(Add({.name = std::string(name), .data = file}));
  return std::make_unique<S3WritableFile>(file);
}

absl::Status S3Output::TakeFile(std::string_view name, const ReadableFile& from,
                                const RunContext& context) {
  const auto* const object = dynamic_cast<const StoredObject*>(&from);
  if (object == nullptr) return OutputDirectory::TakeFile(name, from, context);
  RETURN_IF_ERROR(CheckRelativeName(name));
  return Add({.name = std::string(name), .taken = object->uri(), .taken_bytes = object->size()});
}

absl::Status S3Output::Add(File file) {
  const std::lock_guard lock(mutex_);
  if (!names_.insert(file.name).second) return AlreadyExists(Below(directory_, file.name));
  files_.push_back(std::move(file));
  return absl::OkStatus();
}

absl::StatusOr<bool> S3Output::Mark() {
  const Uri mark = Below(directory_, kCommitMark);
  ASSIGN_OR_RETURN(const bool left, IsLeft(client_, mark));
  if (left) RETURN_IF_ERROR(client_.Delete(mark));
  const absl::Status status = client_.Put(mark, BytesOf(id_), /*create=*/true);
  if (!status.ok() && ReasonOf(status) != Reason::kOutputExists) return status;
  // Read back: an answer may have been lost, and not every store knows conditions.
  ASSIGN_OR_RETURN(const std::string owner, ReadMark(client_, mark));
  if (owner != id_) return AlreadyExists(directory_);
  return left;
}

absl::Status S3Output::RemoveOthers(const S3Listing& before) {
  for (const S3Page::Object& object : before.objects) {
    if (IsHiddenKey(object.key) || names_.contains(object.key)) continue;
    RETURN_IF_ERROR(client_.Delete(Below(directory_, object.key)));
  }
  return absl::OkStatus();
}

absl::Status S3Output::PutInPlace(const S3Listing& before, std::set<std::string>& placed) {
  if (files_.empty()) return RemoveOthers(before);
  const File& last = files_.back();
  // Without it, what is replaced is no artifact any more.
  if (before.visible) RETURN_IF_ERROR(client_.Delete(Below(directory_, last.name)));
  std::mutex mutex;
  RETURN_IF_ERROR(ForEachIndex(kSideBySide, files_.size() - 1, [&](size_t i) {
    const File& file = files_[i];
    if (!file.IsSmall()) {  // it may take its time: the mark is to stay young
      RETURN_IF_ERROR(client_.Put(Below(directory_, kCommitMark), BytesOf(id_), false));
    }
    {
      const std::lock_guard lock(mutex);
      placed.insert(file.name);
    }
    return file.Publish(client_, Below(directory_, file.name), /*create=*/false);
  }));
  RETURN_IF_ERROR(RemoveOthers(before));
  RETURN_IF_ERROR(last.Publish(client_, Below(directory_, last.name), /*create=*/true));
  placed.insert(last.name);
  return absl::OkStatus();
}

absl::Status S3Output::Commit() {
  const std::lock_guard lock(mutex_);
  if (committed_) return Error(Reason::kInternal, directory_.Text(), "committed twice");
  RETURN_IF_ERROR(ForEachIndex(kSideBySide, files_.size(), [this](size_t i) {
    const auto& data = files_[i].data;
    return data == nullptr ? absl::OkStatus() : data->Seal();
  }));
  ASSIGN_OR_RETURN(const bool left, Mark());
  const bool may_replace = overwrite_ || left;
  absl::StatusOr<S3Listing> before = ListDirectory(client_, directory_);
  absl::Status status = before.status();
  if (status.ok()) status = CheckNoFile(client_, directory_);
  if (status.ok() && before->visible && !may_replace) status = AlreadyExists(directory_);
  std::set<std::string> placed;
  const bool replaces = status.ok() && before->visible;
  if (status.ok()) status = PutInPlace(*before, placed);
  const Uri mark = Below(directory_, kCommitMark);
  if (status.ok()) status = client_.Delete(mark);
  if (status.ok()) {
    committed_ = true;
    DiscardAll();
    return status;
  }
  for (const std::string& name : placed) cleaner_.Delete(Below(directory_, name)).IgnoreError();
  // A request that was cut off may yet be carried out, after what it made was removed.
  const bool unsure = !placed.empty() && ReasonOf(status) == Reason::kCancelled;
  // What was there is no longer whole: it stays hidden until somebody writes here again.
  if (replaces || unsure) {
    cleaner_.Put(mark, BytesOf(kAbandoned), false).IgnoreError();
  } else {
    cleaner_.Delete(mark).IgnoreError();
  }
  return status;
}

}  // namespace linchpin
