#include "storage/zeroed_bytes.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>
#include <vector>

namespace linchpin {
namespace {

constexpr size_t kMapped = size_t{4} << 20;  // from this size on
constexpr size_t kHugePage = size_t{2} << 20;

size_t HugePages(size_t size) { return (size + kHugePage - 1) / kHugePage * kHugePage; }

void* Map(size_t size) {
  void* const data =
      mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return data == MAP_FAILED ? nullptr : data;
}

// Mapped zeros that were used before: the first touch of memory costs the system, and
// under a virtual machine its host, far more than to fill it.  Thread-safe.
class KeptBlocks {
 public:
  // `size` bytes, the first `touched` of which were at hand; null where nothing is.
  void* Take(size_t size, size_t& touched) {
    const std::lock_guard lock(mutex_);
    if (blocks_.empty()) return nullptr;
    Block& last = blocks_.back();
    if (last.size > size) {  // a piece of it, from its end
      last.size -= size;
      total_ -= size;
      touched = size;
      return last.data + last.size;
    }
    const Block block = last;
    blocks_.pop_back();
    total_ -= block.size;
    void* const grown = mremap(block.data, block.size, size, MREMAP_MAYMOVE);
    touched = block.size;
    if (grown != MAP_FAILED) return grown;
    touched = 0;
    munmap(block.data, block.size);
    return nullptr;
  }

  // Takes `size` bytes back, of which those before `written` and before `touched` have
  // memory.
  void Give(std::byte* data, size_t size, size_t written, size_t touched) {
    const size_t keep = Claim(std::min(size, std::max(HugePages(written), touched)));
    if (keep < size) munmap(data + keep, size - keep);
    if (keep == 0) return;
    std::memset(data, 0, keep);
    madvise(data, keep, MADV_FREE);
    const std::lock_guard lock(mutex_);
    blocks_.push_back({data, keep});
  }

  size_t total() const {
    const std::lock_guard lock(mutex_);
    return total_;
  }

 private:
  struct Block {
    std::byte* data;
    size_t size;
  };

  size_t Claim(size_t size) {
    const std::lock_guard lock(mutex_);
    const size_t claimed = std::min(size, ZeroedBytes::kKept - total_);
    total_ += claimed;
    return claimed;
  }

  mutable std::mutex mutex_;
  std::vector<Block> blocks_;
  size_t total_ = 0;
};

KeptBlocks& TheKeptBlocks() {
  static KeptBlocks* const blocks = new KeptBlocks;  // outlives whatever gives back last
  return *blocks;
}

}  // namespace

ZeroedBytes::ZeroedBytes(size_t size, bool sparse) : capacity_(size), sparse_(sparse), size_(size) {
  void* memory = nullptr;
  if (capacity_ < kMapped) {
    memory = std::calloc(std::max<size_t>(capacity_, 1), 1);
  } else if (sparse_) {
    memory = Map(HugePages(capacity_));
    if (memory != nullptr) madvise(memory, HugePages(capacity_), MADV_NOHUGEPAGE);
  } else {
    memory = TheKeptBlocks().Take(HugePages(capacity_), touched_);
    if (memory == nullptr) memory = Map(HugePages(capacity_));
    // A fault for every 2 MiB and not for every 4 KiB, where the system does that.
    if (memory != nullptr) madvise(memory, HugePages(capacity_), MADV_HUGEPAGE);
  }
  if (memory == nullptr) throw std::bad_alloc();
  data_ = static_cast<std::byte*>(memory);
}

ZeroedBytes::~ZeroedBytes() {
  if (capacity_ < kMapped) {
    std::free(data_);
  } else if (sparse_) {
    munmap(data_, HugePages(capacity_));
  } else {
    TheKeptBlocks().Give(data_, HugePages(capacity_), written_, touched_);
  }
}

void ZeroedBytes::Written(size_t end) {
  size_t before = written_;
  while (before < end && !written_.compare_exchange_weak(before, end)) {
  }
}

size_t ZeroedBytes::KeptBytes() { return TheKeptBlocks().total(); }

}  // namespace linchpin
