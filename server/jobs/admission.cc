#include "jobs/admission.h"

#include <string>

#include "base/status.h"
#include "fmt/format.h"

namespace linchpin {

Admission::Ticket& Admission::Ticket::operator=(Ticket&& other) noexcept {
  if (this == &other) return *this;
  Release();
  admission_ = std::exchange(other.admission_, nullptr);
  bytes_ = std::exchange(other.bytes_, 0);
  return *this;
}

absl::Status Admission::Ticket::Grow(uint64_t more) {
  if (admission_ == nullptr) {
    return Error(Reason::kInternal, "admission", "the ticket was given back");
  }
  RETURN_IF_ERROR(admission_->Reserve(bytes_, more));
  bytes_ += more;
  return absl::OkStatus();
}

void Admission::Ticket::Release() {
  Admission* admission = std::exchange(admission_, nullptr);
  if (admission != nullptr) admission->Release(std::exchange(bytes_, 0));
}

absl::StatusOr<Admission::Ticket> Admission::Admit() {
  std::lock_guard lock(mutex_);
  if (slots_in_use_ >= options_.slots) {
    return Error(Reason::kBusy, "server", fmt::format("all {} job slots are taken", options_.slots),
                 "call again later");
  }
  ++slots_in_use_;
  return Ticket(this);
}

absl::Status Admission::CheckFits(uint64_t held, uint64_t more) const {
  if (held <= options_.bytes && more <= options_.bytes - held) return absl::OkStatus();
  absl::Status status =
      Error(Reason::kExceedsServerLimit, "job",
            fmt::format("it needs {} more bytes of memory beside {} and this server has {} for "
                        "all jobs",
                        more, held, options_.bytes),
            "use a server with more memory, or raise --max-memory");
  return WithDetail(std::move(status), "limit_bytes", std::to_string(options_.bytes));
}

absl::Status Admission::Reserve(uint64_t held, uint64_t more) {
  std::lock_guard lock(mutex_);
  RETURN_IF_ERROR(CheckFits(held, more));
  if (more > options_.bytes - reserved_) {
    return Error(Reason::kBusy, "server",
                 fmt::format("the job needs {} bytes of memory and other jobs leave {}", more,
                             options_.bytes - reserved_),
                 "call again later");
  }
  reserved_ += more;
  if (options_.on_change) options_.on_change(reserved_);
  return absl::OkStatus();
}

void Admission::Release(uint64_t bytes) {
  std::lock_guard lock(mutex_);
  --slots_in_use_;
  reserved_ -= bytes;
  if (options_.on_change) options_.on_change(reserved_);
}

uint64_t Admission::reserved_bytes() const {
  std::lock_guard lock(mutex_);
  return reserved_;
}

int Admission::slots_in_use() const {
  std::lock_guard lock(mutex_);
  return slots_in_use_;
}

}  // namespace linchpin
