// Storage in memory: for artifacts that arrive and leave as bytes, and for tests.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "storage/storage.h"

namespace linchpin {

// Gives zeros that take memory only once they are touched, so that a file that is
// announced costs what has arrived of it.  For vectors that never grow.
template <class T>
struct ZeroPages {
  using value_type = T;
  ZeroPages() = default;
  template <class U>
  explicit ZeroPages(const ZeroPages<U>& /*other*/) {}

  T* allocate(size_t count) {
    void* const memory = std::calloc(count, sizeof(T));
    if (memory == nullptr) throw std::bad_alloc();
    return static_cast<T*>(memory);
  }
  void deallocate(T* memory, size_t /*count*/) { std::free(memory); }
  template <class U>
  void construct(U* /*zero*/) {}
  template <class U, class... Arguments>
  void construct(U* place, Arguments&&... arguments) {
    new (place) U(std::forward<Arguments>(arguments)...);
  }
  friend bool operator==(const ZeroPages&, const ZeroPages&) { return true; }
};

// Paths are plain keys; a directory exists where a key lies below it.  Bytes
// handed in or out must not be resized while a file is open on them.
class MemoryStorage : public Storage {
 public:
  using Vector = std::vector<std::byte, ZeroPages<std::byte>>;
  using Bytes = std::shared_ptr<Vector>;

  MemoryStorage();

  // Puts a file in place, replacing what was there.
  void Put(const std::string& path, Bytes bytes);
  // The file's bytes, or null.
  Bytes Get(std::string_view path) const;
  // Drops a file, so that its memory is returned before the storage goes.
  void Remove(std::string_view path);

  absl::StatusOr<std::unique_ptr<ReadableFile>> Open(std::string_view path) const override;
  absl::StatusOr<std::vector<FileEntry>> List(std::string_view directory) const override;
  absl::StatusOr<bool> IsDirectory(std::string_view path) const override;
  absl::StatusOr<std::unique_ptr<OutputDirectory>> CreateDirectory(std::string_view path,
                                                                   bool overwrite) const override;

 private:
  struct Files;
  class Output;

  std::shared_ptr<Files> files_;
};

}  // namespace linchpin
