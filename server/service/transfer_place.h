// Where the bytes of a CompressArtifact call lie while it runs: in memory, or in
// the server's scratch directory where it has one.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "service/backend.h"
#include "storage/scratch.h"
#include "storage/storage.h"

namespace linchpin {

// Everything in it goes with it.
class TransferPlace {
 public:
  // STORAGE_FAILED.
  static absl::StatusOr<std::unique_ptr<TransferPlace>> Create(const Backend& backend);

  const Storage& storage() const { return *storage_; }
  std::string source() const { return prefix_ + "model"; }
  std::string output() const { return prefix_ + "output"; }
  // What is to be reserved for bytes that lie here.
  Room room() const { return scratch_ == nullptr ? Room::kMemory : Room::kScratch; }
  // `status` as the caller may read it: names what was sent, not where it lies.
  absl::Status ForCaller(const absl::Status& status) const;

 private:
  TransferPlace(std::unique_ptr<ScratchPlace> scratch, std::unique_ptr<Storage> memory);

  const std::unique_ptr<ScratchPlace> scratch_;  // or null
  const std::unique_ptr<Storage> memory_;        // or null
  const Storage* const storage_;
  const std::string prefix_;  // of paths in storage_
};

}  // namespace linchpin
