#include "client/progress_bar.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <string_view>

#include "client/amounts.h"
#include "fmt/format.h"

namespace linchpin {
namespace {

constexpr int kBarCells = 24;
constexpr int kUsualWidth = 100;
constexpr auto kRedrawPeriod = std::chrono::milliseconds(100);
constexpr auto kLinePeriod = std::chrono::seconds(10);

int WidthOf(std::FILE* out) {
  winsize size{};
  return ioctl(fileno(out), TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : kUsualWidth;
}

std::string Bar(double share) {
  const int full = static_cast<int>(share * kBarCells);
  return fmt::format("[{:#>{}}{:.>{}}] {:3.0f}%", "", full, "", kBarCells - full, share * 100);
}

// What a server sends must not move the cursor.
std::string Printable(std::string text) {
  std::replace_if(
      text.begin(), text.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; }, '?');
  return text;
}

}  // namespace

std::string ProgressLine(const v1::Progress& progress, double seconds_in_stage, int width) {
  const auto done = static_cast<double>(progress.done_bytes());
  const auto total = static_cast<double>(progress.total_bytes());
  std::string line = fmt::format("{:10}", progress.stage());
  if (total > 0) line += " " + Bar(std::clamp(done / total, 0.0, 1.0));
  constexpr double kTooShortToTell = 0.5;
  if (done > 0 && seconds_in_stage >= kTooShortToTell) {
    const double speed = done / seconds_in_stage;
    line += fmt::format("  {}/s", SizeText(speed));
    if (total > done) line += fmt::format("  {} left", DurationText((total - done) / speed));
  }
  if (!progress.item().empty()) line += "  " + progress.item();
  return Printable(line.substr(0, static_cast<size_t>(std::max(width, 1))));
}

ProgressBar::Style ProgressBar::StyleFor(std::FILE* out, bool quiet) {
  if (quiet) return Style::kNone;
  const char* terminal = std::getenv("TERM");
  const bool draws = terminal != nullptr && std::string_view(terminal) != "dumb";
  return draws && isatty(fileno(out)) == 1 ? Style::kBar : Style::kLines;
}

void ProgressBar::Update(const v1::Progress& progress) {
  if (style_ == Style::kNone) return;
  const Clock::time_point now = Clock::now();
  if (progress.stage() != stage_) {
    stage_ = progress.stage();
    stage_began_ = now;
  }
  if (now - last_shown_ < (style_ == Style::kBar ? Clock::duration(kRedrawPeriod) : kLinePeriod)) {
    return;
  }
  last_shown_ = now;
  const double seconds = std::chrono::duration<double>(now - stage_began_).count();
  if (style_ == Style::kLines) {
    fmt::print(out_, "{}\n", ProgressLine(progress, seconds, kUsualWidth));
    return;
  }
  fmt::print(out_, "\r{}\x1b[K", ProgressLine(progress, seconds, WidthOf(out_) - 1));
  std::fflush(out_);
  drawn_ = true;
}

ProgressBar::~ProgressBar() {
  if (drawn_) fmt::print(out_, "\r\x1b[K");
  std::fflush(out_);
}

}  // namespace linchpin
