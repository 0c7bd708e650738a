#include "client/progress_bar.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>

namespace linchpin {
namespace {

using testing::HasSubstr;
using testing::Not;

v1::Progress MakeProgress(uint64_t done, uint64_t total) {
  v1::Progress progress;
  progress.set_stage("quantize");
  progress.set_item("model.layers.3.mlp.up_proj.weight");
  progress.set_done_bytes(done);
  progress.set_total_bytes(total);
  return progress;
}

TEST(ProgressLine, ShowsStageShareSpeedTimeLeftAndItem) {
  const std::string line = ProgressLine(MakeProgress(50'000'000, 200'000'000), 2.0, 200);
  EXPECT_EQ(line,
            "quantize   [######..................]  25%  25.0 MB/s  0:06 left  "
            "model.layers.3.mlp.up_proj.weight");
}

TEST(ProgressLine, SaysNoMoreThanItKnows) {
  const std::string line = ProgressLine(MakeProgress(1000, 0), 2.0, 200);
  EXPECT_THAT(line, HasSubstr("500 B/s"));
  EXPECT_THAT(line, Not(HasSubstr("left")));
  EXPECT_THAT(line, Not(HasSubstr("[")));
  EXPECT_THAT(ProgressLine(MakeProgress(10, 100), 0.1, 200), Not(HasSubstr("/s")));
}

TEST(ProgressLine, IsFullAtTheEndAndNeverBeyond) {
  EXPECT_THAT(ProgressLine(MakeProgress(100, 100), 2, 200),
              HasSubstr("[########################] 100%"));
  EXPECT_THAT(ProgressLine(MakeProgress(300, 100), 2, 200), HasSubstr("] 100%"));
}

TEST(ProgressLine, FitsTheTerminalAndKeepsItsCursor) {
  EXPECT_EQ(ProgressLine(MakeProgress(1, 2), 1, 20).size(), 20U);
  v1::Progress progress = MakeProgress(1, 2);
  progress.set_item("\x1b[2J\n");
  EXPECT_EQ(ProgressLine(progress, 1, 200).find_first_of("\x1b\n"), std::string::npos);
}

std::string Shown(ProgressBar::Style style, int updates) {
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::tmpfile(), std::fclose);
  {
    ProgressBar bar(style, file.get());
    for (int i = 0; i < updates; ++i) bar.Update(MakeProgress(i, updates));
  }
  std::string text(static_cast<size_t>(std::ftell(file.get())), '\0');
  std::rewind(file.get());
  text.resize(std::fread(text.data(), 1, text.size(), file.get()));
  return text;
}

TEST(ProgressBar, IsSilentWhenQuietAndForShortWork) {
  EXPECT_EQ(Shown(ProgressBar::Style::kNone, 1000), "");
  EXPECT_EQ(Shown(ProgressBar::Style::kLines, 1000), "");  // ten seconds did not pass
}

TEST(ProgressBar, ChoosesItsStyleByWhereItWrites) {
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::tmpfile(), std::fclose);
  EXPECT_EQ(ProgressBar::StyleFor(file.get(), true), ProgressBar::Style::kNone);
  EXPECT_EQ(ProgressBar::StyleFor(file.get(), false), ProgressBar::Style::kLines);
}

}  // namespace
}  // namespace linchpin
