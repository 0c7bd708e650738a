// A file behind HTTP, read by ranges (RFC 9110, section 14).
//
// The version that was opened is pinned: by If-Match where the server gives a
// strong ETag, and by comparing ETag, date and size of every answer.  A read
// that breaks off goes on at the byte it reached.
#pragma once

#include <memory>
#include <string>

#include "storage/http/block_cache.h"
#include "storage/http/http_client.h"
#include "storage/storage.h"

namespace linchpin {

// What tells one version of a remote file from another.
struct FileVersion {
  uint64_t size = 0;
  std::string etag;      // as sent, with its quotes; may be empty
  std::string modified;  // Last-Modified; may be empty

  friend bool operator==(const FileVersion&, const FileVersion&) = default;
};

class RemoteFile : public ReadableFile {
 public:
  // The version that `request` leads to, asked for with a range of one byte,
  // which every server answers alike; HEAD is often forbidden.  FEATURE_UNSUPPORTED
  // for a server without ranges; the errors of ErrorOf.
  static absl::StatusOr<FileVersion> Probe(const HttpClient& client, const HttpRequest& request);

  // The file as Probe finds it.
  static absl::StatusOr<std::unique_ptr<ReadableFile>> Open(const HttpClient& client,
                                                            const HttpRequest& request,
                                                            std::shared_ptr<BlockCache> cache);

  // How its version is asked for again.
  using AskVersion = std::function<absl::StatusOr<FileVersion>()>;

  // `request` is the GET for the whole file; `cache` may be shared.
  RemoteFile(HttpClient client, HttpRequest request, FileVersion version, AskVersion ask,
             std::shared_ptr<BlockCache> cache);
  ~RemoteFile() override { cache_->Drop(id_); }

  uint64_t size() const override { return version_.size; }
  // Long reads as several requests side by side, short ones through the cache.
  absl::Status ReadAt(uint64_t offset, absl::Span<std::byte> out) const override;
  absl::Status CheckUnchanged() const override;
  // By its strong ETag; empty without one.
  std::string Version() const override;

 private:
  absl::Status Fetch(uint64_t offset, absl::Span<std::byte> out) const;
  absl::Status FetchSideBySide(uint64_t offset, absl::Span<std::byte> out) const;
  absl::Status ReadThroughCache(uint64_t offset, absl::Span<std::byte> out) const;
  // An error unless `head` begins exactly at `offset` of our version.
  absl::Status CheckAnswer(const HttpResponse& head, uint64_t offset, uint64_t count) const;
  absl::Status Changed() const;

  const HttpClient client_;
  const HttpRequest request_;
  const FileVersion version_;
  const AskVersion ask_;
  const std::shared_ptr<BlockCache> cache_;
  const uint64_t id_;
};

}  // namespace linchpin
