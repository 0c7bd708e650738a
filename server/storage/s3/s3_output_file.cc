#include "storage/s3/s3_output_file.h"

#include <algorithm>
#include <cstring>

#include "base/status.h"
#include "fmt/format.h"
#include "storage/s3/s3_storage.h"

namespace linchpin {
namespace {

constexpr uint64_t kMaxParts = 10'000;
constexpr uint64_t kMaxPartBytes = uint64_t{64} << 20;
constexpr uint64_t kPartStep = uint64_t{1} << 20;

}  // namespace

absl::StatusOr<std::shared_ptr<S3OutputFile>> S3OutputFile::Create(
    S3Client client, Uri stage, uint64_t size, std::shared_ptr<BlockCache> cache) {
  const uint64_t least = (size / kMaxParts + kPartStep) / kPartStep * kPartStep;
  const uint64_t part_bytes = std::max(client.options().part_bytes, least);
  if (least > kMaxPartBytes) {
    return Error(
        Reason::kStorageFailed, stage.Text(),
        fmt::format("{} bytes, more than {} parts of {} hold", size, kMaxParts, kMaxPartBytes),
        "split the model into shards");
  }
  return std::shared_ptr<S3OutputFile>(
      new S3OutputFile(std::move(client), std::move(stage), size, part_bytes, std::move(cache)));
}

S3OutputFile::S3OutputFile(S3Client client, Uri stage, uint64_t size, uint64_t part_bytes,
                           std::shared_ptr<BlockCache> cache)
    : client_(std::move(client)),
      stage_(std::move(stage)),
      size_(size),
      part_bytes_(part_bytes),
      cache_(std::move(cache)),
      etags_((size + part_bytes - 1) / part_bytes) {}

absl::Status S3OutputFile::CheckRange(uint64_t offset, uint64_t count) const {
  if (offset <= size_ && count <= size_ - offset) return absl::OkStatus();
  return Error(Reason::kInternal, stage_.Text(),
               fmt::format("bytes {} to {} of a file of {}", offset, offset + count, size_));
}

std::shared_ptr<S3OutputFile::Part> S3OutputFile::Hold(size_t index) {
  if (!etags_[index].empty()) return nullptr;
  std::shared_ptr<Part>& part = parts_[index];
  if (part == nullptr) {
    part = std::make_shared<Part>(std::min(part_bytes_, size_ - index * part_bytes_));
  }
  return part;
}

bool S3OutputFile::Note(Part& part, uint64_t begin, uint64_t end) const {
  auto next = part.written.upper_bound(begin);
  if (next != part.written.begin() && std::prev(next)->second >= begin) --next;
  while (next != part.written.end() && next->first <= end) {
    begin = std::min(begin, next->first);
    end = std::max(end, next->second);
    next = part.written.erase(next);
  }
  part.written[begin] = end;
  if (IsSmall() || part.sending || begin != 0 || end != part.bytes.size()) return false;
  part.sending = true;
  return true;
}

absl::Status S3OutputFile::WriteAt(uint64_t offset, absl::Span<const std::byte> bytes) {
  RETURN_IF_ERROR(CheckRange(offset, bytes.size()));
  while (!bytes.empty()) {
    const size_t index = offset / part_bytes_;
    const uint64_t begin = offset % part_bytes_;
    const size_t count = std::min<uint64_t>(bytes.size(), part_bytes_ - begin);
    std::shared_ptr<Part> part;
    bool whole = false;
    {
      const std::lock_guard lock(mutex_);
      part = Hold(index);
      if (part == nullptr || part->sending) {
        return Error(Reason::kInternal, stage_.Text(),
                     fmt::format("byte {} was written twice", offset));
      }
    }
    std::memcpy(part->bytes.data() + begin, bytes.data(), count);
    {
      const std::lock_guard lock(mutex_);
      whole = Note(*part, begin, begin + count);
    }
    if (whole) RETURN_IF_ERROR(SendPart(index, *part));
    offset += count;
    bytes.remove_prefix(count);
  }
  return absl::OkStatus();
}

absl::Status S3OutputFile::SendPart(size_t index, const Part& part) {
  std::string upload;
  {
    const std::lock_guard lock(mutex_);
    if (upload_.empty()) {
      ASSIGN_OR_RETURN(upload_, client_.StartUpload(stage_));
    }
    upload = upload_;
  }
  ASSIGN_OR_RETURN(std::string etag, client_.UploadPart(stage_, upload, index + 1, part.View()));
  const std::lock_guard lock(mutex_);
  etags_[index] = std::move(etag);
  parts_.erase(index);
  return ++sent_ == etags_.size() ? FinishUpload() : absl::OkStatus();
}

absl::Status S3OutputFile::FinishUpload() {
  const absl::Status status = client_.CompleteUpload(stage_, upload_, etags_, /*create=*/false);
  // An answer that was lost leaves the object and no upload.
  const absl::StatusOr<S3Object> object = client_.Head(stage_);
  if (!object.ok() || object->version.size != size_) {
    if (!status.ok()) return status;
    return Error(Reason::kStorageFailed, stage_.Text(), "the store does not hold what it was sent",
                 "try again later");
  }
  if (!status.ok() && ReasonOf(status) != Reason::kSourceNotFound) return status;
  whole_ = OpenObject(client_, stage_, object->version, cache_);
  return absl::OkStatus();
}

absl::Status S3OutputFile::ReadAt(uint64_t offset, absl::Span<std::byte> out) {
  RETURN_IF_ERROR(CheckRange(offset, out.size()));
  std::unique_lock lock(mutex_);
  if (whole_ != nullptr) {
    lock.unlock();  // it stays until the end
    return whole_->ReadAt(offset, out);
  }
  while (!out.empty()) {
    const size_t index = offset / part_bytes_;
    const uint64_t begin = offset % part_bytes_;
    const size_t count = std::min<uint64_t>(out.size(), part_bytes_ - begin);
    const auto part = parts_.find(index);
    if (part != parts_.end()) {
      std::memcpy(out.data(), part->second->bytes.data() + begin, count);
    } else if (etags_[index].empty()) {
      std::memset(out.data(), 0, count);
    } else {
      return Error(Reason::kInternal, stage_.Text(), "read back before all of it was written");
    }
    offset += count;
    out.remove_prefix(count);
  }
  return absl::OkStatus();
}

absl::Status S3OutputFile::Seal() {
  if (IsSmall()) return absl::OkStatus();
  for (size_t index = 0; index < etags_.size(); ++index) {
    std::shared_ptr<Part> part;
    {
      const std::lock_guard lock(mutex_);
      part = Hold(index);
      if (part != nullptr) part->sending = true;
    }
    if (part != nullptr) RETURN_IF_ERROR(SendPart(index, *part));
  }
  return absl::OkStatus();
}

absl::Status S3OutputFile::Publish(const S3Client& client, const Uri& place, bool create) {
  if (!IsSmall()) return client.Copy(stage_, size_, place, create);
  const std::lock_guard lock(mutex_);
  const absl::Span<const std::byte> bytes =
      size_ == 0 ? absl::Span<const std::byte>() : Hold(0)->View();
  const absl::Status status = client.Put(place, bytes, create);
  if (ReasonOf(status) != Reason::kOutputExists) return status;
  // It may be ours, after an answer that was lost.
  const absl::StatusOr<HttpResponse> there = client.http().Send(client.Request(place, "GET"));
  const bool same =
      there.ok() && there->ok() &&
      std::equal(bytes.begin(), bytes.end(), reinterpret_cast<const std::byte*>(there->body.data()),
                 reinterpret_cast<const std::byte*>(there->body.data()) + there->body.size());
  return same ? absl::OkStatus() : status;
}

void S3OutputFile::Discard(const S3Client& client) {
  const std::lock_guard lock(mutex_);
  if (upload_.empty()) return;
  if (whole_ == nullptr) client.AbortUpload(stage_, upload_).IgnoreError();
  client.Delete(stage_).IgnoreError();
}

}  // namespace linchpin
