#include "jobs/admission.h"

#include <string>
#include <string_view>

#include "base/status.h"
#include "fmt/format.h"

namespace linchpin {
namespace {

struct RoomInfo {
  std::string_view name;
  std::string_view remedy;
};
constexpr RoomInfo kRooms[kRoomCount] = {
    {"memory", "use a server with more memory, or raise --max-memory"},
    {"scratch", "use a server with more room in its scratch directory, or raise --max-scratch"},
};

}  // namespace

Admission::Ticket& Admission::Ticket::operator=(Ticket&& other) noexcept {
  if (this == &other) return *this;
  Release();
  admission_ = std::exchange(other.admission_, nullptr);
  bytes_ = std::exchange(other.bytes_, Bytes{});
  return *this;
}

absl::Status Admission::Ticket::Grow(uint64_t more, Room room) {
  if (admission_ == nullptr) {
    return Error(Reason::kInternal, "admission", "the ticket was given back");
  }
  uint64_t& held = bytes_[static_cast<int>(room)];
  RETURN_IF_ERROR(admission_->Reserve(held, more, room));
  held += more;
  return absl::OkStatus();
}

void Admission::Ticket::Release() {
  Admission* admission = std::exchange(admission_, nullptr);
  if (admission != nullptr) admission->Release(std::exchange(bytes_, Bytes{}));
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

absl::Status Admission::CheckFits(uint64_t held, uint64_t more, Room room) const {
  const uint64_t limit = limits_[static_cast<int>(room)];
  if (held <= limit && more <= limit - held) return absl::OkStatus();
  const RoomInfo& info = kRooms[static_cast<int>(room)];
  absl::Status status = Error(
      Reason::kExceedsServerLimit, "job",
      fmt::format("it needs {} more bytes of {} beside {} and this server has {} for all jobs",
                  more, info.name, held, limit),
      info.remedy);
  return WithDetail(std::move(status), "limit_bytes", std::to_string(limit));
}

absl::Status Admission::Reserve(uint64_t held, uint64_t more, Room room) {
  std::lock_guard lock(mutex_);
  RETURN_IF_ERROR(CheckFits(held, more, room));
  uint64_t& reserved = reserved_[static_cast<int>(room)];
  const uint64_t left = limits_[static_cast<int>(room)] - reserved;
  if (more > left) {
    return Error(Reason::kBusy, "server",
                 fmt::format("the job needs {} bytes of {} and other jobs leave {}", more,
                             kRooms[static_cast<int>(room)].name, left),
                 "call again later");
  }
  reserved += more;
  if (options_.on_change) options_.on_change(room, reserved);
  return absl::OkStatus();
}

void Admission::Release(const Bytes& bytes) {
  std::lock_guard lock(mutex_);
  --slots_in_use_;
  for (int i = 0; i < kRoomCount; ++i) {
    if (bytes[i] == 0) continue;
    reserved_[i] -= bytes[i];
    if (options_.on_change) options_.on_change(static_cast<Room>(i), reserved_[i]);
  }
}

uint64_t Admission::reserved_bytes(Room room) const {
  std::lock_guard lock(mutex_);
  return reserved_[static_cast<int>(room)];
}

int Admission::slots_in_use() const {
  std::lock_guard lock(mutex_);
  return slots_in_use_;
}

}  // namespace linchpin
