// Storage behind https:// addresses: single files, read only.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "storage/http/block_cache.h"
#include "storage/http/http_client.h"
#include "storage/storage.h"
#include "storage/uri.h"

namespace linchpin {

// A plain web server knows no directories: every path is a file or is not
// there, and List is FEATURE_UNSUPPORTED.  Redirects, at most 3, stay beneath
// `prefixes`, which UriStorage asks of the first address, too.
class HttpsStorage : public Storage {
 public:
  HttpsStorage(HttpClient client, std::vector<Uri> prefixes)
      : client_(std::move(client)), prefixes_(std::move(prefixes)) {}

  absl::StatusOr<std::unique_ptr<ReadableFile>> Open(std::string_view path) const override;
  absl::StatusOr<std::vector<FileEntry>> List(std::string_view directory) const override;
  absl::StatusOr<bool> IsDirectory(std::string_view path) const override;
  absl::StatusOr<std::unique_ptr<OutputDirectory>> CreateDirectory(std::string_view path,
                                                                   bool overwrite) const override;
  std::unique_ptr<Storage> UntilStopped(const std::stop_token& stop) const override;

 private:
  absl::StatusOr<HttpRequest> RequestFor(std::string_view path) const;

  HttpClient client_;
  std::vector<Uri> prefixes_;
  std::shared_ptr<BlockCache> cache_ = std::make_shared<BlockCache>();
};

}  // namespace linchpin
