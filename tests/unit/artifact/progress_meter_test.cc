#include "artifact/progress_meter.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace linchpin {
namespace {

using ::testing::ElementsAre;

class Recorder : public RunObserver {
 public:
  void OnProgress(const Progress& progress) override {
    lines.push_back(progress.item + " " + std::to_string(progress.done) + "/" +
                    std::to_string(progress.total));
  }
  void OnStageDone(Stage stage, double seconds, uint64_t read, uint64_t written) override {
    EXPECT_GE(seconds, 0);
    lines.push_back(std::string(StageName(stage)) + " " + std::to_string(read) + " " +
                    std::to_string(written));
  }
  void OnTensor(TensorAction action) override { lines.emplace_back(TensorActionName(action)); }
  std::vector<std::string> lines;
};

TEST(ProgressMeterTest, AddsUp) {
  Recorder recorder;
  const RunContext context{.observer = &recorder};
  ProgressMeter meter(Stage::kQuantize, 10, context);
  meter.Add("a", 4);
  meter.CountTensor(TensorAction::kCopied);
  meter.Add("b", 6);
  meter.Done(10, 3);
  EXPECT_THAT(recorder.lines, ElementsAre("a 4/10", "copied", "b 10/10", "quantize 10 3"));
}

TEST(ProgressMeterTest, NobodyNeedListen) {
  const RunContext context;
  ProgressMeter meter(Stage::kArtifact, 1, context);
  meter.Add("a", 1);
  meter.CountTensor(TensorAction::kQuantized);
  meter.Done(1, 1);
}

}  // namespace
}  // namespace linchpin
