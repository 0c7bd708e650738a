#include "storage/http/remote_file.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "base/parallel.h"
#include "base/status.h"
#include "fmt/format.h"

namespace linchpin {
namespace {

constexpr uint64_t kPieceBytes = uint64_t{8} << 20;
constexpr int kSideBySide = 4;
constexpr uint64_t kMaxFileBytes = uint64_t{1} << 44;  // 16 TiB

std::optional<uint64_t> Number(std::string_view text) {
  if (text.empty() || text.size() > 18 ||
      text.find_first_not_of("0123456789") != std::string_view::npos) {
    return std::nullopt;
  }
  return std::stoull(std::string(text));
}

// "bytes 0-99/1234"; `first` and `last` stay 0 for an unsatisfied "bytes */1234".
struct ContentRange {
  uint64_t first = 0, last = 0, size = 0;
};

std::optional<ContentRange> ParseContentRange(std::string_view text) {
  constexpr std::string_view kUnit = "bytes ";
  const size_t slash = text.find('/');
  if (!text.starts_with(kUnit) || slash == std::string_view::npos) return std::nullopt;
  const std::string_view range = text.substr(kUnit.size(), slash - kUnit.size());
  const auto size = Number(text.substr(slash + 1));
  if (range == "*" && size) return ContentRange{0, 0, *size};
  const size_t dash = std::min(range.find('-'), range.size());
  const auto first = Number(range.substr(0, dash));
  const auto last = Number(range.substr(std::min(dash + 1, range.size())));
  if (!first || !last || !size || *last < *first || *last >= *size) return std::nullopt;
  return ContentRange{*first, *last, *size};
}

// "bytes=0-99".
std::pair<std::string, std::string> Range(uint64_t offset, uint64_t count) {
  return {"Range", fmt::format("bytes={}-{}", offset, offset + count - 1)};
}

FileVersion VersionOf(const HttpResponse& response, uint64_t size) {
  return {size, std::string(response.Header("etag")),
          std::string(response.Header("last-modified"))};
}

absl::Status NoRanges(const std::string& what) {
  return Error(Reason::kFeatureUnsupported, what, "its server does not answer ranges as asked",
               "use a server that does");
}

}  // namespace

absl::StatusOr<FileVersion> RemoteFile::Probe(const HttpClient& client,
                                              const HttpRequest& request) {
  HttpRequest probe = request;
  probe.headers.push_back(Range(0, 1));
  probe.max_body = 1;
  // Bodies of servers that ignore the range are not read.
  bool whole = false;
  const auto response =
      client.Send([&probe] { return probe; },
                  [&whole](const HttpResponse& head, absl::Span<const std::byte>) {
                    whole = head.status != 206;
                    return whole ? absl::UnknownError("") : absl::OkStatus();
                  });
  if (whole) return NoRanges(request.what);
  RETURN_IF_ERROR(response.status());
  const auto range = ParseContentRange(response->Header("content-range"));
  if (response->status == 416 && range && range->size == 0) return VersionOf(*response, 0);
  if (response->ok() && Number(response->Header("content-length")) == uint64_t{0}) {
    return VersionOf(*response, 0);
  }
  if (!response->ok()) return ErrorOf(request, *response);
  if (!range || range->first != 0 || range->last != 0) return NoRanges(request.what);
  if (range->size > kMaxFileBytes) {
    return Error(
        Reason::kStorageFailed, request.what,
        fmt::format("its server speaks of {} bytes, more than a file may have", range->size));
  }
  return VersionOf(*response, range->size);
}

absl::StatusOr<std::unique_ptr<ReadableFile>> RemoteFile::Open(const HttpClient& client,
                                                               const HttpRequest& request,
                                                               std::shared_ptr<BlockCache> cache) {
  ASSIGN_OR_RETURN(FileVersion version, Probe(client, request));
  const auto ask = [client, request] { return Probe(client, request); };
  return std::make_unique<RemoteFile>(client, request, std::move(version), ask, std::move(cache));
}

RemoteFile::RemoteFile(HttpClient client, HttpRequest request, FileVersion version, AskVersion ask,
                       std::shared_ptr<BlockCache> cache)
    : client_(std::move(client)),
      request_(std::move(request)),
      version_(std::move(version)),
      ask_(std::move(ask)),
      cache_(std::move(cache)),
      id_(cache_->NewFile()) {}

absl::Status RemoteFile::Changed() const {
  return Error(Reason::kSourceChanged, request_.what, "the file was changed while it was read",
               "run again when it no longer changes");
}

absl::Status RemoteFile::CheckAnswer(const HttpResponse& head, uint64_t offset,
                                     uint64_t count) const {
  FileVersion now = VersionOf(head, version_.size);
  const auto range = ParseContentRange(head.Header("content-range"));
  if (range) now.size = range->size;
  if (head.status == 200) now.size = Number(head.Header("content-length")).value_or(version_.size);
  if (now != version_) return Changed();
  if (head.status == 200 && offset == 0 && count == version_.size) return absl::OkStatus();
  if (head.status != 206 || !range || range->first != offset || range->last != offset + count - 1) {
    return NoRanges(request_.what);
  }
  return absl::OkStatus();
}

absl::Status RemoteFile::Fetch(uint64_t offset, absl::Span<std::byte> out) const {
  size_t done = 0;      // bytes of `out` that are there
  size_t answered = 0;  // the same when the answer in hand began
  bool begun = false;
  const auto make = [&] {
    answered = done;
    begun = false;
    HttpRequest request = request_;
    request.headers.push_back(Range(offset + done, out.size() - done));
    if (version_.etag.starts_with('"')) request.headers.emplace_back("If-Match", version_.etag);
    return request;
  };
  const auto take = [&](const HttpResponse& head, absl::Span<const std::byte> bytes) {
    if (!begun) RETURN_IF_ERROR(CheckAnswer(head, offset + answered, out.size() - answered));
    begun = true;
    if (bytes.size() > out.size() - done) return NoRanges(request_.what);
    std::memcpy(out.data() + done, bytes.data(), bytes.size());
    done += bytes.size();
    return absl::OkStatus();
  };
  while (done < out.size()) {
    const size_t before = done;
    ASSIGN_OR_RETURN(const HttpResponse response, client_.Send(make, take));
    // What was there when it was opened has gone.
    if (response.status == 404 || response.status == 410) return Changed();
    if (!response.ok()) return ErrorOf(request_, response);
    if (done == before) {
      return Error(Reason::kStorageFailed, request_.what, "its server sends less than it says");
    }
  }
  return absl::OkStatus();
}

absl::Status RemoteFile::FetchSideBySide(uint64_t offset, absl::Span<std::byte> out) const {
  const size_t pieces = (out.size() + kPieceBytes - 1) / kPieceBytes;
  return ForEachIndex(kSideBySide, pieces, [&](size_t i) {
    return Fetch(offset + i * kPieceBytes, out.subspan(i * kPieceBytes, kPieceBytes));
  });
}

absl::Status RemoteFile::ReadThroughCache(uint64_t offset, absl::Span<std::byte> out) const {
  while (!out.empty()) {
    const uint64_t index = offset / BlockCache::kBlockBytes;
    const uint64_t begin = index * BlockCache::kBlockBytes;
    const auto fetch = [&]() -> absl::StatusOr<BlockCache::Block> {
      auto block =
          std::make_shared<ZeroedBytes>(std::min(BlockCache::kBlockBytes, version_.size - begin));
      block->Written(block->size());
      RETURN_IF_ERROR(Fetch(begin, absl::MakeSpan(block->data(), block->size())));
      return block;
    };
    ASSIGN_OR_RETURN(const BlockCache::Block block, cache_->Get(id_, index, fetch));
    const size_t count = std::min<size_t>(out.size(), block->size() - (offset - begin));
    std::memcpy(out.data(), block->data() + (offset - begin), count);
    offset += count;
    out.remove_prefix(count);
  }
  return absl::OkStatus();
}

absl::Status RemoteFile::ReadAt(uint64_t offset, absl::Span<std::byte> out) const {
  if (offset > version_.size || out.size() > version_.size - offset) {
    return Error(
        Reason::kSourceChanged, request_.what,
        fmt::format("bytes {} to {} of a file of {}", offset, offset + out.size(), version_.size),
        "run again when it no longer changes");
  }
  if (out.size() < BlockCache::kBlockBytes) return ReadThroughCache(offset, out);
  return out.size() <= kPieceBytes ? Fetch(offset, out) : FetchSideBySide(offset, out);
}

std::string RemoteFile::Version() const {
  if (!version_.etag.starts_with('"')) return "";
  return fmt::format("{} {} {} {}", request_.what, version_.etag, version_.modified, version_.size);
}

absl::Status RemoteFile::CheckUnchanged() const {
  const absl::StatusOr<FileVersion> now = ask_();
  if (!now.ok() && ReasonOf(now.status()) != Reason::kSourceNotFound) return now.status();
  return now.ok() && *now == version_ ? absl::OkStatus() : Changed();
}

}  // namespace linchpin
