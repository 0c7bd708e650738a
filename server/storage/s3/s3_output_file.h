// A file of an output in S3 while it is written.
//
// S3 has no writing at an offset: a large file is a multipart upload, whose
// parts are put together in memory and sent as soon as each is whole, by the
// thread that completes it.  So memory holds the parts in which something is
// missing, each as far as it was written: of a file that is written front to back by
// n threads about n, of one with several such regions (header, codes, scales) as many
// for each.  A file of
// at most one part stays in memory until the output is committed.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "storage/http/block_cache.h"
#include "storage/s3/s3_client.h"
#include "storage/storage.h"
#include "storage/zeroed_bytes.h"

namespace linchpin {

// Thread-safe as WritableFile asks.
class S3OutputFile {
 public:
  // `stage`: the key under which a large file waits.  STORAGE_FAILED for a size
  // beyond 10,000 parts of 64 MiB.
  static absl::StatusOr<std::shared_ptr<S3OutputFile>> Create(S3Client client, Uri stage,
                                                              uint64_t size,
                                                              std::shared_ptr<BlockCache> cache);

  absl::Status WriteAt(uint64_t offset, absl::Span<const std::byte> bytes);
  // Of a large file only what is still in memory, until all of it is written:
  // then the store's own copy is read.
  absl::Status ReadAt(uint64_t offset, absl::Span<std::byte> out);

  // Sends what is missing, as zeros where nothing was written; a small file is kept.
  absl::Status Seal();
  // Puts the sealed file at `place`.  `create`: OUTPUT_EXISTS where the store
  // knows that something else stands there.
  absl::Status Publish(const S3Client& client, const Uri& place, bool create);
  // Removes what the store holds of it under the stage.
  void Discard(const S3Client& client);

  // It has one part at most, which stays in memory.
  bool IsSmall() const { return etags_.size() <= 1; }

 private:
  struct Part {
    explicit Part(size_t size) : bytes(size, /*sparse=*/true) {}
    absl::Span<const std::byte> View() const { return {bytes.data(), bytes.size()}; }

    ZeroedBytes bytes;                     // as much memory as was written of it
    std::map<uint64_t, uint64_t> written;  // begin -> end of what is there, merged
    bool sending = false;
  };
  S3OutputFile(S3Client client, Uri stage, uint64_t size, uint64_t part_bytes,
               std::shared_ptr<BlockCache> cache);

  absl::Status CheckRange(uint64_t offset, uint64_t count) const;
  // The part in memory, made on demand; null once it was sent.  With mutex_ held.
  std::shared_ptr<Part> Hold(size_t index);
  // Notes [begin, end) of the part as written; true if the part is now whole
  // and the caller is to send it.  With mutex_ held.
  bool Note(Part& part, uint64_t begin, uint64_t end) const;
  absl::Status SendPart(size_t index, const Part& part);
  absl::Status FinishUpload();

  const S3Client client_;
  const Uri stage_;
  const uint64_t size_;
  const uint64_t part_bytes_;
  const std::shared_ptr<BlockCache> cache_;

  std::mutex mutex_;  // guards all below
  std::map<size_t, std::shared_ptr<Part>> parts_;
  std::vector<std::string> etags_;  // by part; empty until it is sent
  size_t sent_ = 0;
  std::string upload_;
  std::unique_ptr<ReadableFile> whole_;  // the store's copy
};

}  // namespace linchpin
