#include "storage/http/block_cache.h"

namespace linchpin {

uint64_t BlockCache::NewFile() {
  const std::lock_guard lock(mutex_);
  return ++files_;
}

absl::StatusOr<BlockCache::Block> BlockCache::Get(uint64_t file, uint64_t index,
                                                  const Fetch& fetch) {
  const Key key(file, index);
  std::unique_lock lock(mutex_);
  for (auto entry = entries_.find(key); entry != entries_.end(); entry = entries_.find(key)) {
    if (entry->second.block != nullptr) {
      by_use_.splice(by_use_.begin(), by_use_, entry->second.used);
      return entry->second.block;
    }
    fetched_.wait(lock);
  }
  by_use_.push_front(key);
  entries_[key] = {nullptr, by_use_.begin()};
  lock.unlock();
  absl::StatusOr<Block> block = fetch();
  lock.lock();
  const auto entry = entries_.find(key);
  if (block.ok()) {
    entry->second.block = *block;
    Evict();
  } else {
    by_use_.erase(entry->second.used);
    entries_.erase(entry);
  }
  lock.unlock();
  fetched_.notify_all();
  return block;
}

void BlockCache::Evict() {
  for (auto oldest = by_use_.end(); entries_.size() > most_ && oldest != by_use_.begin();) {
    --oldest;
    const auto entry = entries_.find(*oldest);
    if (entry->second.block == nullptr) continue;
    entries_.erase(entry);
    oldest = by_use_.erase(oldest);
  }
}

void BlockCache::Drop(uint64_t file) {
  const std::lock_guard lock(mutex_);
  for (auto entry = entries_.lower_bound({file, 0});
       entry != entries_.end() && entry->first.first == file;) {
    if (entry->second.block == nullptr) {
      ++entry;
      continue;
    }
    by_use_.erase(entry->second.used);
    entry = entries_.erase(entry);
  }
}

}  // namespace linchpin
