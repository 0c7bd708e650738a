// An output directory of which some files are kept and the others forgotten: for
// a worker that writes its part of an artifact with the code that writes all.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/storage.h"

namespace linchpin {

// A forgotten file takes what is written to it, and reads as zeros.
class PartialOutput final : public OutputDirectory {
 public:
  using Keeps = std::function<bool(std::string_view name)>;

  // `output` must outlive this.
  PartialOutput(OutputDirectory& output, Keeps keeps) : output_(output), keeps_(std::move(keeps)) {}

  absl::StatusOr<std::unique_ptr<WritableFile>> CreateFile(std::string_view name,
                                                           uint64_t size) override;
  absl::Status Commit() override { return output_.Commit(); }

 private:
  OutputDirectory& output_;
  const Keeps keeps_;
};

}  // namespace linchpin
