// Progress on stderr: a bar on a terminal, else a line every ten seconds.
#pragma once

#include <chrono>
#include <cstdio>
#include <string>

#include "linchpin/v1/compression.pb.h"

namespace linchpin {

// One line of at most `width` columns: stage, bar, share done, bytes per second,
// time left, item.  Without a total there is neither bar nor time left.
std::string ProgressLine(const v1::Progress& progress, double seconds_in_stage, int width);

// Not thread-safe: one call, one thread.
class ProgressBar {
 public:
  enum class Style { kNone, kLines, kBar };

  // kBar where `out` is a terminal that can be drawn on, else kLines; kNone if `quiet`.
  static Style StyleFor(std::FILE* out, bool quiet);

  ProgressBar(Style style, std::FILE* out) : style_(style), out_(out) {}
  // Wipes the bar.
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  void Update(const v1::Progress& progress);

 private:
  using Clock = std::chrono::steady_clock;

  const Style style_;
  std::FILE* const out_;
  std::string stage_;
  Clock::time_point stage_began_;
  Clock::time_point last_shown_ = Clock::now();
  bool drawn_ = false;
};

}  // namespace linchpin
