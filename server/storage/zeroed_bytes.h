// Memory for files that arrive, or come into being, in memory.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>

namespace linchpin {

// Bytes that begin as zeros and take memory only where they were touched, so that
// a file that is announced costs what has arrived of it.  Of large ones, what was
// written stays at hand for the next, up to kKept in all, cleared, and marked as
// what the system may take whenever it wants; the rest goes back at once.  Sparse
// ones are touched page by page, as those that hold little of what they have room for
// should be, and go back whole.
class ZeroedBytes {
 public:
  static constexpr size_t kKept = size_t{256} << 20;

  // std::bad_alloc where there is no such room.
  explicit ZeroedBytes(size_t size, bool sparse = false);
  ~ZeroedBytes();
  ZeroedBytes(const ZeroedBytes&) = delete;
  ZeroedBytes& operator=(const ZeroedBytes&) = delete;

  std::byte* data() { return data_; }
  const std::byte* data() const { return data_; }
  size_t size() const { return size_; }
  std::byte& operator[](size_t i) { return data_[i]; }
  std::byte operator[](size_t i) const { return data_[i]; }
  void Shrink(size_t size) { size_ = std::min(size, size_); }
  // That bytes before `end` were written: what is not told goes back.  Thread-safe.
  void Written(size_t end);
  friend bool operator==(const ZeroedBytes& a, const ZeroedBytes& b) {
    return std::equal(a.data_, a.data_ + a.size_, b.data_, b.data_ + b.size_);
  }

  // What is at hand now.  Thread-safe.
  static size_t KeptBytes();

 private:
  const size_t capacity_;
  const bool sparse_;
  size_t size_;
  std::atomic<size_t> written_ = 0;
  size_t touched_ = 0;  // at the beginning, by who had it before
  std::byte* data_;
};

}  // namespace linchpin
