// The conformance suite on this machine's back-ends.
#include "tests/unit/storage/storage_conformance.h"

#include "storage/local_storage.h"
#include "storage/memory_storage.h"
#include "storage/stoppable_storage.h"
#include "tests/support/safetensors_file.h"
#include "tests/support/temporary_directory.h"

namespace linchpin {
namespace {

class LocalBackend : public Backend {
 public:
  LocalBackend() {
    const std::string root = directory_.path().string();
    storage_ = *LocalStorage::Create({.write_roots = {root}});
  }
  const Storage& storage() const override { return *storage_; }
  std::string Path(std::string_view name) const override { return directory_ / name; }
  void Put(std::string_view name, std::string_view content) override {
    directory_.Write(name, content);
  }

 private:
  TemporaryDirectory directory_;
  std::unique_ptr<LocalStorage> storage_;
};

class MemoryBackend : public Backend {
 public:
  const Storage& storage() const override { return storage_; }
  std::string Path(std::string_view name) const override { return "store/" + std::string(name); }
  void Put(std::string_view name, std::string_view content) override {
    storage_.Put(Path(name), ToBytes(content));
  }

 private:
  MemoryStorage storage_;
};

// A job's view of a store is that store until a stop.
class StoppableBackend : public LocalBackend {
 public:
  const Storage& storage() const override { return storage_; }

 private:
  const StoppableStorage storage_{LocalBackend::storage(), std::stop_token()};
};

const auto kBackends =
    ::testing::Values(&Make<LocalBackend>, &Make<MemoryBackend>, &Make<StoppableBackend>);
const auto kName = [](const auto& info) {
  return std::vector<std::string>{"Local", "Memory", "Stoppable"}[info.index];
};

INSTANTIATE_TEST_SUITE_P(Backends, ReadConformance, kBackends, kName);
INSTANTIATE_TEST_SUITE_P(Backends, ListConformance, kBackends, kName);
INSTANTIATE_TEST_SUITE_P(Backends, StorageConformance, kBackends, kName);

}  // namespace
}  // namespace linchpin
