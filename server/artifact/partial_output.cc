#include "artifact/partial_output.h"

#include <algorithm>

namespace linchpin {
namespace {

class ForgottenFile final : public WritableFile {
 public:
  absl::Status WriteAt(uint64_t /*offset*/, absl::Span<const std::byte> /*bytes*/) override {
    return absl::OkStatus();
  }
  absl::Status ReadAt(uint64_t /*offset*/, absl::Span<std::byte> out) const override {
    std::fill(out.begin(), out.end(), std::byte{0});
    return absl::OkStatus();
  }
};

}  // namespace

absl::StatusOr<std::unique_ptr<WritableFile>> PartialOutput::CreateFile(std::string_view name,
                                                                        uint64_t size) {
  if (keeps_(name)) return output_.CreateFile(name, size);
  return std::make_unique<ForgottenFile>();
}

}  // namespace linchpin
