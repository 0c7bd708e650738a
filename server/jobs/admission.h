// Who may start: slots, and bytes of memory and of scratch, reserved at once or refused.
//
// Nothing waits here.  A caller that is refused is told when to come back; a
// queue would only hide that the server is full.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <mutex>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace linchpin {

// What jobs hold in bytes: memory, and room in the directory of --scratch-dir.
enum class Room { kMemory, kScratch };
inline constexpr int kRoomCount = 2;

// Thread-safe.  Must outlive its tickets.
class Admission {
 public:
  using Bytes = std::array<uint64_t, kRoomCount>;  // by Room

  struct Options {
    int slots = 1;       // jobs at a time, >= 1
    uint64_t bytes = 0;  // of memory that all jobs together may reserve
    uint64_t scratch_bytes = 0;
    // Hears the reserved sum after every change; called with a lock held.
    std::function<void(Room room, uint64_t reserved)> on_change;
  };

  // One slot and some bytes, given back when the ticket goes.  Movable.
  class Ticket {
   public:
    Ticket() = default;
    Ticket(Ticket&& other) noexcept { *this = std::move(other); }
    Ticket& operator=(Ticket&& other) noexcept;
    ~Ticket() { Release(); }

    // Reserves `more` bytes.  EXCEEDS_SERVER_LIMIT if this ticket alone would
    // pass the server's limit (detail `limit_bytes`), BUSY if others hold too
    // much; the ticket is then as it was.
    absl::Status Grow(uint64_t more, Room room = Room::kMemory);
    // Gives everything back; again is harmless.
    void Release();
    uint64_t bytes(Room room = Room::kMemory) const { return bytes_[static_cast<int>(room)]; }

   private:
    friend class Admission;
    explicit Ticket(Admission* admission) : admission_(admission) {}

    Admission* admission_ = nullptr;
    Bytes bytes_{};
  };

  explicit Admission(Options options)
      : options_(std::move(options)), limits_{options_.bytes, options_.scratch_bytes} {}

  // A slot, without bytes yet; BUSY if all are taken.
  absl::StatusOr<Ticket> Admit();

  // EXCEEDS_SERVER_LIMIT (detail `limit_bytes`) for a job that holds `held` bytes
  // and could never have `more`, whoever else runs.
  absl::Status CheckFits(uint64_t held, uint64_t more, Room room = Room::kMemory) const;

  uint64_t limit_bytes(Room room = Room::kMemory) const { return limits_[static_cast<int>(room)]; }
  uint64_t reserved_bytes(Room room = Room::kMemory) const;
  int slots_in_use() const;

 private:
  absl::Status Reserve(uint64_t held, uint64_t more, Room room);
  void Release(const Bytes& bytes);

  const Options options_;
  const Bytes limits_;
  mutable std::mutex mutex_;
  Bytes reserved_{};
  int slots_in_use_ = 0;
};

}  // namespace linchpin
