// Blocks of remote files: makes one request of many small reads.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include "absl/status/statusor.h"
#include "storage/zeroed_bytes.h"

namespace linchpin {

// Keeps the blocks that were used last, of all files of a store together.
// Thread-safe: of several threads that want one block, one fetches it.
class BlockCache {
 public:
  using Block = std::shared_ptr<const ZeroedBytes>;
  using Fetch = std::function<absl::StatusOr<Block>()>;

  static constexpr uint64_t kBlockBytes = uint64_t{4} << 20;

  explicit BlockCache(size_t blocks = 16) : most_(blocks) {}

  // A number for a file that no other file has.
  uint64_t NewFile();
  // The block from memory, or what `fetch` gives.
  absl::StatusOr<Block> Get(uint64_t file, uint64_t index, const Fetch& fetch);
  // Forgets a file's blocks.
  void Drop(uint64_t file);

 private:
  using Key = std::pair<uint64_t, uint64_t>;  // file, index
  struct Entry {
    Block block;  // null while it is fetched
    std::list<Key>::iterator used;
  };
  void Evict();

  const size_t most_;
  std::mutex mutex_;
  std::condition_variable fetched_;
  std::map<Key, Entry> entries_;
  std::list<Key> by_use_;  // the latest first
  uint64_t files_ = 0;
};

}  // namespace linchpin
