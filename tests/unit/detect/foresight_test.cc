// The second run of a peel, begun beside the first, is the one that would follow it.
#include "detect/foresight.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "detect/prompt.h"
#include "detect/round.h"
#include "detect/super_activations.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/oracle_model.h"
#include "tests/support/shared.h"

namespace linchpin {
namespace {

// A model that was run untouched, with foresight.
struct Watched {
  explicit Watched(const std::string& name, std::vector<int32_t> prompt = {})
      : model(OpenModel(SharedPath("oracles/planted/" + name))),
        pass(ForwardPass::Open(*model.checkpoint, model.config).value()) {
    if (prompt.empty()) prompt = DefaultPrompt(model.config);
    trace = StartTrace(pass, prompt).value();
    run.hidden = trace.layers.front().hidden;
    for (int layer = 0; layer < pass.layers(); ++layer) {
      std::vector<TraceRun*> runs = {&run};
      if (foresight.run() != nullptr) runs.push_back(foresight.run());
      EXPECT_TRUE(RunLayer(pass, layer, runs, {}, {}).ok());
      EXPECT_TRUE(foresight.Consider(run, layer, {}).ok());
    }
    trace.last_hidden = run.hidden;
  }

  // What the whole trace says is to be zeroed.
  std::vector<DownProjEdit> Edits() const {
    const Bar bar = FreezeBar(trace);
    const auto round = LookAt({*model.checkpoint, pass, trace, {}, bar, options, magnitudes, {}});
    EXPECT_TRUE(round.ok()) << round.status();
    std::vector<DownProjEdit> edits;
    for (const SuperWeight& weight : round->weights) edits.push_back(Zeroing(weight));
    return edits;
  }

  OracleModel model;
  ForwardPass pass;
  DetectOptions options;
  Trace trace;
  TraceRun run{&trace, {}, {}};
  mutable Magnitudes magnitudes{*model.checkpoint, options};
  Foresight foresight{*model.checkpoint, pass, options, magnitudes};
};

int FirstLayerOf(const std::vector<DownProjEdit>& edits) {
  int first = edits.front().layer;
  for (const DownProjEdit& edit : edits) first = std::min(first, edit.layer);
  return first;
}

// To rounding: LibTorch may add in another order where more tokens are beside each other.
void ExpectSame(const Matrix& a, const Matrix& b, size_t layer) {
  ASSERT_EQ(a.data.size(), b.data.size()) << layer;
  float largest = 0;
  for (const float value : a.data) largest = std::max(largest, std::fabs(value));
  for (size_t i = 0; i < a.data.size(); ++i) {
    ASSERT_NEAR(a.data[i], b.data[i], 1e-5F * largest) << "layer " << layer << ", at " << i;
  }
}

void ExpectSame(const Trace& a, const Trace& b) {
  ASSERT_EQ(a.layers.size(), b.layers.size());
  for (size_t i = 0; i < a.layers.size(); ++i) {
    ExpectSame(a.layers[i].hidden, b.layers[i].hidden, i);
    ExpectSame(a.layers[i].mlp_added, b.layers[i].mlp_added, i);
    ASSERT_EQ(a.layers[i].down_projs.size(), b.layers[i].down_projs.size()) << i;
    for (size_t j = 0; j < a.layers[i].down_projs.size(); ++j) {
      ExpectSame(a.layers[i].down_projs[j].output, b.layers[i].down_projs[j].output, i);
    }
  }
  ExpectSame(a.last_hidden, b.last_hidden, a.layers.size());
}

class ForesightOn : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override { LINCHPIN_NEEDS_SHARED(); }
};

TEST_P(ForesightOn, RunsWhatWouldBeRunNext) {
  Watched watched(GetParam());
  const std::vector<DownProjEdit> edits = watched.Edits();
  ASSERT_FALSE(edits.empty());
  Trace again = watched.trace;
  ASSERT_TRUE(RunFrom(watched.pass, FirstLayerOf(edits), edits, {}, again).ok());
  ASSERT_TRUE(watched.foresight.Fulfils(edits, watched.trace));
  ExpectSame(watched.trace, again);
  EXPECT_EQ(watched.foresight.run(), nullptr);  // it is given once
}

INSTANTIATE_TEST_SUITE_P(Planted, ForesightOn,
                         ::testing::Values("00-llama-one", "01-mistral-one", "03-qwen3-siblings",
                                           "06-llama3-siblings", "11-qwen3-moe-expert"),
                         [](const auto& info) {
                           return "Model" + std::string(info.param).substr(0, 2);
                         });

TEST(Foresight, IsThrownAwayWhereItGuessedWrong) {
  LINCHPIN_NEEDS_SHARED();
  Watched watched("00-llama-one");
  ASSERT_NE(watched.foresight.run(), nullptr);
  std::vector<DownProjEdit> others = watched.Edits();
  ++others.front().row;
  const Trace before = watched.trace;
  EXPECT_FALSE(watched.foresight.Fulfils(others, watched.trace));
  others = watched.Edits();
  others.push_back(others.front());
  others.back().layer = 5;
  EXPECT_FALSE(watched.foresight.Fulfils(others, watched.trace));
  ExpectSame(watched.trace, before);
}

TEST(Foresight, SeesNothingWhereThereIsNothing) {
  LINCHPIN_NEEDS_SHARED();
  for (const char* name : {"10-llama-decoy", "12-qwen2-none"}) {
    Watched watched(name);
    if (!watched.Edits().empty()) continue;
    EXPECT_EQ(watched.foresight.run(), nullptr) << name;
  }
}

TEST(Foresight, LeavesALongPromptAlone) {
  LINCHPIN_NEEDS_SHARED();
  const OracleModel model = OpenModel(SharedPath("oracles/planted/00-llama-one"));
  std::vector<int32_t> prompt = DefaultPrompt(model.config);
  while (prompt.size() < 65) prompt.push_back(prompt.back());
  EXPECT_EQ(Watched("00-llama-one", prompt).foresight.run(), nullptr);
}

}  // namespace
}  // namespace linchpin
