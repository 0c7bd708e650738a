// What a computation allocates in all, freed or not: a count of its work that is the
// same on every machine, where a clock would not be.
//
// Only AddressSanitizer's allocator counts; without it nothing is ever allocated.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define LINCHPIN_COUNTS_ALLOCATIONS
#include <sanitizer/allocator_interface.h>
#endif
#endif

class AllocatedBytes {
 public:
  AllocatedBytes() {
#ifdef LINCHPIN_COUNTS_ALLOCATIONS
    [[maybe_unused]] static const int hooked = __sanitizer_install_malloc_and_free_hooks(
        [](const volatile void*, size_t size) { total_ += size; }, [](const volatile void*) {});
#endif
    start_ = total_;
  }
  // By this thread, since this was made.
  uint64_t count() const { return total_ - start_; }

 private:
  static inline thread_local uint64_t total_ = 0;
  uint64_t start_ = 0;
};
