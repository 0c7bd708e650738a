// Who may start: slots and bytes of memory, reserved at once or refused.
//
// Nothing waits here.  A caller that is refused is told when to come back; a
// queue would only hide that the server is full.
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace linchpin {

// Thread-safe.  Must outlive its tickets.
class Admission {
 public:
  struct Options {
    int slots = 1;       // jobs at a time, >= 1
    uint64_t bytes = 0;  // of memory that all jobs together may reserve
    // Hears the reserved sum after every change; called with a lock held.
    std::function<void(uint64_t reserved)> on_change;
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
    absl::Status Grow(uint64_t more);
    // Gives everything back; again is harmless.
    void Release();
    uint64_t bytes() const { return bytes_; }

   private:
    friend class Admission;
    explicit Ticket(Admission* admission) : admission_(admission) {}

    Admission* admission_ = nullptr;
    uint64_t bytes_ = 0;
  };

  explicit Admission(Options options) : options_(std::move(options)) {}

  // A slot, without bytes yet; BUSY if all are taken.
  absl::StatusOr<Ticket> Admit();

  // EXCEEDS_SERVER_LIMIT (detail `limit_bytes`) for a job that holds `held` bytes
  // and could never have `more`, whoever else runs.
  absl::Status CheckFits(uint64_t held, uint64_t more) const;

  uint64_t limit_bytes() const { return options_.bytes; }
  uint64_t reserved_bytes() const;
  int slots_in_use() const;

 private:
  absl::Status Reserve(uint64_t held, uint64_t more);
  void Release(uint64_t bytes);

  const Options options_;
  mutable std::mutex mutex_;
  uint64_t reserved_ = 0;
  int slots_in_use_ = 0;
};

}  // namespace linchpin
