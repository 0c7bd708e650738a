#include "detect/thresholds.h"

#include <cmath>
#include <limits>
#include <set>
#include <string>

#include "base/status.h"
#include "gtest/gtest.h"

namespace linchpin {
namespace {

TEST(ThresholdsTest, EachReadsWhatItSetsAndNothingElse) {
  for (const Threshold& threshold : Thresholds()) {
    DetectOptions options;
    const double other =
        threshold.get(options) == threshold.least ? threshold.least + 1 : threshold.least;
    ASSERT_TRUE(SetThreshold(threshold.name, other, options).ok()) << threshold.name;
    int changed = 0;
    for (const Threshold& any : Thresholds()) {
      if (any.get(options) != any.get(DetectOptions())) ++changed;
    }
    EXPECT_EQ(threshold.get(options), other) << threshold.name;
    EXPECT_EQ(changed, 1) << threshold.name;
  }
}

TEST(ThresholdsTest, DefaultsLieInTheirRangesUnderNamesOfTheirOwn) {
  std::set<std::string_view> names;
  for (const Threshold& threshold : Thresholds()) {
    EXPECT_TRUE(names.insert(threshold.name).second) << threshold.name;
    const double value = threshold.get({});
    EXPECT_TRUE(value >= threshold.least && value <= threshold.most) << threshold.name;
  }
}

TEST(ThresholdsTest, AnUnknownNameIsRefusedWithTheList) {
  DetectOptions options;
  const absl::Status status = SetThreshold("min_sharing", 1, options);
  EXPECT_EQ(ReasonOf(status), Reason::kOptionInvalid);
  EXPECT_NE(status.message().find("min_share"), std::string::npos);
}

TEST(ThresholdsTest, AValueOutsideItsRangeIsRefusedAndChangesNothing) {
  DetectOptions options;
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const double value : {-0.1, 1.1, nan, std::numeric_limits<double>::infinity()}) {
    EXPECT_EQ(ReasonOf(SetThreshold("min_share", value, options)), Reason::kOptionInvalid) << value;
  }
  for (const double value : {0.0, 1.5, 1e9, nan}) {
    EXPECT_EQ(ReasonOf(SetThreshold("max_rounds", value, options)), Reason::kOptionInvalid)
        << value;
  }
  EXPECT_EQ(ReasonOf(SetThreshold("max_contributors", 1e12, options)), Reason::kOptionInvalid);
  EXPECT_EQ(options.min_share, DetectOptions().min_share);
  EXPECT_EQ(options.max_rounds, DetectOptions().max_rounds);
}

}  // namespace
}  // namespace linchpin
