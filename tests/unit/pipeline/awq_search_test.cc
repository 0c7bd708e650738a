// The scales of a search like AWQ's, on a matrix of our own.
#include "pipeline/awq_search.h"

#include <algorithm>
#include <cmath>

#include "base/status.h"
#include "gtest/gtest.h"
#include "storage/memory_storage.h"
#include "tests/support/tiny_checkpoint.h"

namespace linchpin {
namespace {

constexpr const char kDown[] = "model.layers.0.mlp.down_proj.weight";

class AwqSearchTest : public ::testing::Test {
 protected:
  void Open(const TinyCheckpoint& tiny = {}) {
    PutTinyCheckpoint(storage_, "/m", tiny);
    auto opened = Checkpoint::Open(storage_, "/m");
    ASSERT_TRUE(opened.ok()) << opened.status();
    checkpoint_ = std::make_unique<Checkpoint>(std::move(opened).value());
  }
  // Eight tokens, all alike but for one channel that is `loud` times as large.
  Matrix Input(int64_t columns, int64_t channel, float loud) {
    Matrix input{std::vector<float>(static_cast<size_t>(8 * columns)), 8, columns};
    for (size_t i = 0; i < input.data.size(); ++i) {
      input.data[i] = static_cast<float>(i * 2654435761U % 1000) / 500 - 1;
      if (static_cast<int64_t>(i) % columns == channel) input.data[i] *= loud;
    }
    return input;
  }
  MemoryStorage storage_;
  std::unique_ptr<Checkpoint> checkpoint_;
};

TEST_F(AwqSearchTest, ALoudChannelGetsALargerScale) {
  Open();
  const Matrix input = Input(160, 37, 300);
  const auto search = SearchAwqScales(*checkpoint_, kDown, input.View(), {.threads = 2});
  ASSERT_TRUE(search.ok()) << search.status();
  EXPECT_GT(search->exponent, 0);
  EXPECT_LT(search->error_ratio, 0.9);
  ASSERT_EQ(search->scales.size(), 160U);
  const auto [least, most] = std::minmax_element(search->scales.begin(), search->scales.end());
  EXPECT_EQ(most - search->scales.begin(), 37);
  EXPECT_NEAR(*most * *least, 1, 1e-5);  // as AWQ normalises them
}

TEST_F(AwqSearchTest, WithNothingToGainNothingIsScaled) {
  Open();
  Matrix input = Input(160, 0, 1);
  for (float& x : input.data) x = x < 0 ? -1.0F : 1.0F;  // all means are 1
  const auto search = SearchAwqScales(*checkpoint_, kDown, input.View(), {});
  ASSERT_TRUE(search.ok()) << search.status();
  EXPECT_EQ(search->exponent, 0);
  EXPECT_EQ(search->error_ratio, 1);
  for (const float scale : search->scales) EXPECT_EQ(scale, 1);
}

TEST_F(AwqSearchTest, RowsThatNoGroupDividesAreRefused) {
  Open({.intermediate = 100});
  const Matrix input = Input(100, 0, 1);
  const auto search = SearchAwqScales(*checkpoint_, kDown, input.View(), {});
  EXPECT_EQ(ReasonOf(search.status()), Reason::kFeatureUnsupported);
  // The input of another matrix: as of one that is stored the other way round.
  const Matrix other = Input(64, 0, 1);
  EXPECT_EQ(ReasonOf(SearchAwqScales(*checkpoint_, kDown, other.View(), {}).status()),
            Reason::kFeatureUnsupported);
}

TEST_F(AwqSearchTest, AStopEndsIt) {
  Open();
  std::stop_source stop;
  stop.request_stop();
  const Matrix input = Input(160, 0, 1);
  const RunContext context{.stop = stop.get_token()};
  EXPECT_EQ(ReasonOf(SearchAwqScales(*checkpoint_, kDown, input.View(), context).status()),
            Reason::kCancelled);
}

}  // namespace
}  // namespace linchpin
