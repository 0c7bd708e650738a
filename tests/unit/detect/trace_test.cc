// What a trace keeps, against the activations that it saw.
#include "detect/trace.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "checkpoint/model_config.h"
#include "gtest/gtest.h"
#include "tests/support/tiny_checkpoint.h"

namespace linchpin {
namespace {

// Keeps all inputs of one layer's down_proj.
class Inputs : public Tap {
 public:
  void OnDownProj(const DownProjView& view) override {
    for (int64_t row = 0; row < view.input.rows; ++row) {
      const absl::Span<const float> values = view.input.Row(row);
      rows.emplace_back(values.begin(), values.end());
    }
  }
  std::vector<std::vector<float>> rows;
};

class TraceTest : public ::testing::TestWithParam<int64_t> {
 protected:
  void Run() {
    PutTinyCheckpoint(storage_, "/m", {.intermediate = GetParam()});
    checkpoint_.emplace(Checkpoint::Open(storage_, "/m").value());
    const ModelConfig config =
        ModelConfig::Parse("config.json", checkpoint_->config_text()).value();
    pass_.emplace(ForwardPass::Open(*checkpoint_, config).value());
    const std::vector<int32_t> ids = {1, 5, 9, 2, 23};
    trace_ = StartTrace(*pass_, ids).value();
    TraceRun run{&trace_, {}, trace_.layers.front().hidden};
    Matrix hidden = run.hidden;
    const absl::Status traced = RunLayer(*pass_, 0, {&run}, {}, {});
    ASSERT_TRUE(traced.ok()) << traced;
    // By itself as well: LibTorch may add in another order where more tokens are beside.
    const Lane lane{&hidden, {}, &inputs_};
    const absl::Status seen = pass_->RunLayer(0, {&lane, 1}, {});
    ASSERT_TRUE(seen.ok()) << seen;
  }

  MemoryStorage storage_;
  std::optional<Checkpoint> checkpoint_;
  std::optional<ForwardPass> pass_;
  Trace trace_;
  Inputs inputs_;
};

TEST_P(TraceTest, KeepsTheLargestInputsOfEveryTokenInOrder) {
  Run();
  const DownProjTrace& down = trace_.layers[0].down_projs.at(0);
  ASSERT_EQ(down.top_inputs.size(), inputs_.rows.size());
  for (size_t row = 0; row < inputs_.rows.size(); ++row) {
    std::vector<InputElement> all;
    for (const float value : inputs_.rows[row]) {
      all.push_back({static_cast<int64_t>(all.size()), value});
    }
    std::stable_sort(all.begin(), all.end(), [](const InputElement& a, const InputElement& b) {
      return std::fabs(a.value) > std::fabs(b.value);
    });
    all.resize(std::min<size_t>(all.size(), kKeptInputs));
    ASSERT_EQ(down.top_inputs[row].size(), all.size());
    for (size_t i = 0; i < all.size(); ++i) {
      EXPECT_EQ(down.top_inputs[row][i].channel, all[i].channel) << row << ", " << i;
      EXPECT_EQ(down.top_inputs[row][i].value, all[i].value) << row << ", " << i;
    }
  }
}

TEST_P(TraceTest, RecordsTheLargestInputOfAll) {
  Run();
  const Peak& peak = trace_.layers[0].record.down_proj_input;
  const std::vector<float>& row = inputs_.rows.at(static_cast<size_t>(peak.token));
  EXPECT_EQ(row.at(static_cast<size_t>(peak.channel)), peak.value);
  for (const std::vector<float>& values : inputs_.rows) {
    for (const float value : values) EXPECT_LE(std::fabs(value), std::fabs(peak.value));
  }
}

// Fewer inputs than are kept, just as many, and rows that no vector divides.
INSTANTIATE_TEST_SUITE_P(Widths, TraceTest, ::testing::Values(8, 32, 33, 160, 1037));

}  // namespace
}  // namespace linchpin
