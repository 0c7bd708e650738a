#include "service/transfer_place.h"

#include <utility>

#include "absl/strings/str_replace.h"
#include "storage/memory_storage.h"

namespace linchpin {

absl::StatusOr<std::unique_ptr<TransferPlace>> TransferPlace::Create(const Backend& backend) {
  if (backend.scratch == nullptr) {
    return std::unique_ptr<TransferPlace>(
        new TransferPlace(nullptr, std::make_unique<MemoryStorage>()));
  }
  ASSIGN_OR_RETURN(auto place, backend.scratch->NewPlace());
  return std::unique_ptr<TransferPlace>(new TransferPlace(std::move(place), nullptr));
}

TransferPlace::TransferPlace(std::unique_ptr<ScratchPlace> scratch, std::unique_ptr<Storage> memory)
    : scratch_(std::move(scratch)),
      memory_(std::move(memory)),
      storage_(scratch_ ? &scratch_->storage() : memory_.get()),
      prefix_(scratch_ ? scratch_->path() + "/" : "") {}

absl::Status TransferPlace::ForCaller(const absl::Status& status) const {
  if (status.ok() || prefix_.empty()) return status;
  absl::Status told(status.code(), absl::StrReplaceAll(status.message(), {{prefix_, ""}}));
  status.ForEachPayload(
      [&](absl::string_view url, const absl::Cord& payload) { told.SetPayload(url, payload); });
  return told;
}

}  // namespace linchpin
