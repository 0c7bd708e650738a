#include "base/run_context.h"

#include <set>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace linchpin {
namespace {

TEST(Names, OfStagesAndActionsAreDistinctAndLowerCase) {
  std::set<std::string_view> names;
  for (int i = 0; i < kStageCount; ++i) names.insert(StageName(static_cast<Stage>(i)));
  for (int i = 0; i < kTensorActionCount; ++i) {
    names.insert(TensorActionName(static_cast<TensorAction>(i)));
  }
  EXPECT_EQ(names.size(), static_cast<size_t>(kStageCount + kTensorActionCount));
  for (const std::string_view name : names) {
    EXPECT_FALSE(name.empty());
    EXPECT_EQ(name.find_first_not_of("abcdefghijklmnopqrstuvwxyz"), std::string_view::npos);
  }
  EXPECT_EQ(StageName(Stage::kQuantize), "quantize");
  EXPECT_EQ(TensorActionName(TensorAction::kPreserved), "preserved");
}

TEST(RunContext, IsOkUntilAskedToStop) {
  std::stop_source source;
  RunContext context;
  EXPECT_TRUE(context.Check().ok()) << "without a stop token";
  context.stop = source.get_token();
  EXPECT_TRUE(context.Check().ok());
  source.request_stop();
  EXPECT_EQ(ReasonOf(context.Check()), Reason::kCancelled);
}

TEST(RunContext, ReportsToItsObserverIfThereIsOne) {
  struct Recorder : RunObserver {
    void OnProgress(const Progress& progress) override { items.push_back(progress.item); }
    std::vector<std::string> items;
  } recorder;
  RunContext context;
  context.Report({.item = "nobody hears"});
  context.observer = &recorder;
  context.Report({.item = "layer 1"});
  EXPECT_EQ(recorder.items, std::vector<std::string>{"layer 1"});
}

}  // namespace
}  // namespace linchpin
