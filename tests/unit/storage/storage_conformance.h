// What every back-end of Storage must do, whatever it stores into: one suite in
// three steps.  ReadConformance is for all of them, ListConformance for those
// that know directories (reading_conformance.cc), StorageConformance for those
// that are written as well (storage_conformance.cc).  Each back-end has a file
// that runs the steps that it takes.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "gtest/gtest.h"
#include "storage/storage.h"

namespace linchpin {

// A store with a place in it that exists and is empty or nearly so.
class Backend {
 public:
  virtual ~Backend() = default;
  virtual const Storage& storage() const = 0;
  virtual std::string Path(std::string_view name) const = 0;
  virtual void Put(std::string_view name, std::string_view content) = 0;
};

template <class T>
std::unique_ptr<Backend> Make() {
  return std::make_unique<T>();
}

using MakeBackend = std::unique_ptr<Backend> (*)();

class ReadConformance : public ::testing::TestWithParam<MakeBackend> {
 protected:
  const Storage& storage() const { return backend_->storage(); }
  std::string Path(std::string_view name) const { return backend_->Path(name); }
  void Put(std::string_view name, std::string_view content) { backend_->Put(name, content); }

  absl::StatusOr<std::string> Read(std::string_view name) const {
    return ReadText(storage(), Path(name), 1 << 20);
  }
  static absl::Span<const std::byte> Bytes(std::string_view text) {
    return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
  }
  static absl::StatusOr<std::string> Range(const ReadableFile& file, uint64_t offset,
                                           size_t count) {
    std::string text(count, '?');
    RETURN_IF_ERROR(
        file.ReadAt(offset, absl::MakeSpan(reinterpret_cast<std::byte*>(text.data()), count)));
    return text;
  }

 private:
  std::unique_ptr<Backend> backend_ = GetParam()();
};

class ListConformance : public ReadConformance {
 protected:
  std::vector<std::string> Names(std::string_view directory) const {
    std::vector<std::string> names;
    const auto entries = storage().List(Path(directory));
    EXPECT_TRUE(entries.ok()) << entries.status();
    if (entries.ok()) {
      for (const FileEntry& entry : *entries) names.push_back(entry.name);
    }
    return names;
  }
};

class StorageConformance : public ListConformance {
 protected:
  std::unique_ptr<OutputDirectory> Create(std::string_view name, bool overwrite = false) const {
    auto output = storage().CreateDirectory(Path(name), overwrite);
    EXPECT_TRUE(output.ok()) << output.status();
    return output.ok() ? *std::move(output) : nullptr;
  }
  static void Write(OutputDirectory& output, std::string_view name, std::string_view content) {
    auto file = output.CreateFile(name, content.size());
    ASSERT_TRUE(file.ok()) << file.status();
    ASSERT_TRUE((*file)->WriteAt(0, Bytes(content)).ok());
  }
};

}  // namespace linchpin
