// Models of a Hugging Face hub as storage, read only: hf://OWNER/MODEL[@REVISION].
//
// The revision, "main" unless given, is resolved to a commit once and every
// file is read from that commit; a job takes a view of its own (UntilStopped),
// so it sees one commit from its first byte to its last, whatever is pushed.
// API: GET /api/models/OWNER/MODEL/revision/REV?blobs=true, whose answer has
// "sha" and "siblings"; files at /OWNER/MODEL/resolve/COMMIT/NAME.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "storage/http/block_cache.h"
#include "storage/http/http_client.h"
#include "storage/storage.h"
#include "storage/uri.h"

namespace linchpin {

struct HubOptions {
  Uri endpoint;        // https://huggingface.co, or a mirror
  bool named = false;  // the operator named it: its address is not questioned
  std::string token;   // sent to the endpoint only; may be empty
};

// Redirects, at most 3, lead to the endpoint itself or, over https, to the
// hub's own domains, which serve the files.
class HubStorage : public Storage {
 public:
  HubStorage(HttpClient client, HubOptions options)
      : client_(std::move(client)), options_(std::move(options)) {}

  absl::StatusOr<std::unique_ptr<ReadableFile>> Open(std::string_view path) const override;
  absl::StatusOr<std::vector<FileEntry>> List(std::string_view directory) const override;
  absl::StatusOr<bool> IsDirectory(std::string_view path) const override;
  absl::StatusOr<std::unique_ptr<OutputDirectory>> CreateDirectory(std::string_view path,
                                                                   bool overwrite) const override;
  std::unique_ptr<Storage> UntilStopped(const std::stop_token& stop) const override;

 private:
  struct Snapshot {
    std::string commit;
    std::vector<FileEntry> files;  // sorted by name
  };
  // A path within a model at its commit.
  struct Place {
    Uri uri;
    std::string model;  // "owner/model"
    std::string file;   // empty for the model itself
    std::shared_ptr<const Snapshot> snapshot;
  };
  absl::StatusOr<Place> Find(std::string_view path) const;
  absl::StatusOr<std::shared_ptr<const Snapshot>> Resolve(const Place& place) const;
  HttpRequest RequestFor(const Place& place, std::string_view url_path) const;

  HttpClient client_;
  HubOptions options_;
  std::shared_ptr<BlockCache> cache_ = std::make_shared<BlockCache>();
  mutable std::mutex mutex_;
  // By "owner/model@revision", guarded by mutex_.
  mutable std::map<std::string, std::shared_ptr<const Snapshot>> snapshots_;
};

}  // namespace linchpin
