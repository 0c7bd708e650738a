// A store for one job: whatever the job begins in it after a stop ends with CANCELLED
// instead, so that a stage cannot forget to ask.
#pragma once

#include <memory>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "storage/storage.h"

namespace linchpin {

// Opens, lists, reads, creates, writes, takes and commits; what is under way when the
// stop comes runs to its end, or ends as the store's own UntilStopped sees it.
// Nothing is left of an output that was stopped before its commit.
class StoppableStorage : public Storage {
 public:
  // `storage` must outlive this.
  StoppableStorage(const Storage& storage, std::stop_token stop);

  absl::StatusOr<std::unique_ptr<ReadableFile>> Open(std::string_view path) const override;
  absl::StatusOr<std::vector<FileEntry>> List(std::string_view directory) const override;
  absl::StatusOr<bool> IsDirectory(std::string_view path) const override;
  std::string Canonical(std::string_view path) const override;
  absl::StatusOr<std::unique_ptr<OutputDirectory>> CreateDirectory(std::string_view path,
                                                                   bool overwrite) const override;
  absl::Status RemoveDirectory(std::string_view path) const override;
  absl::StatusOr<std::unique_ptr<OutputDirectory>> ResumeDirectory(
      std::string_view path, bool overwrite, std::string_view key) const override;

 private:
  const std::stop_token stop_;
  const std::unique_ptr<Storage> own_;  // the store until `stop_`, or null
  const Storage& storage_;
};

}  // namespace linchpin
