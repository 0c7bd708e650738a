#include "metrics/labels.h"

#include <set>
#include <string>

#include "gtest/gtest.h"

namespace linchpin {
namespace {

TEST(Labels, NamesAreDistinctAndLowerSnakeCase) {
  std::set<std::string_view> names;
  for (int kind = 0; kind < kJobKindCount; ++kind) names.insert(NameOf(static_cast<JobKind>(kind)));
  EXPECT_EQ(names.size(), static_cast<size_t>(kJobKindCount));
  names.clear();
  for (int result = 0; result < kJobResultCount; ++result) {
    names.insert(NameOf(static_cast<JobResult>(result)));
  }
  EXPECT_EQ(names.size(), static_cast<size_t>(kJobResultCount));
  for (const CountedReason& counted : CountedReasons()) {
    EXPECT_EQ(counted.label.find_first_not_of("abcdefghijklmnopqrstuvwxyz_"), std::string::npos)
        << counted.label;
  }
}

TEST(Labels, ResultOfAStatus) {
  EXPECT_EQ(ResultOf(absl::OkStatus()), JobResult::kOk);
  EXPECT_EQ(ResultOf(Error(Reason::kCancelled, "job", "gone")), JobResult::kCancelled);
  EXPECT_EQ(ResultOf(absl::CancelledError("elsewhere")), JobResult::kCancelled);
  EXPECT_EQ(ResultOf(Error(Reason::kBusy, "server", "full")), JobResult::kRefused);
  EXPECT_EQ(ResultOf(Error(Reason::kExceedsServerLimit, "job", "big")), JobResult::kRefused);
  EXPECT_EQ(ResultOf(Error(Reason::kDraining, "server", "going")), JobResult::kRefused);
  EXPECT_EQ(ResultOf(Error(Reason::kNotFinite, "t", "NaN")), JobResult::kFailed);
  EXPECT_EQ(ResultOf(absl::InternalError("?")), JobResult::kFailed);
}

TEST(Labels, GrpcCodesAreInTheOrderOfTheirNumbers) {
  ASSERT_EQ(GrpcCodeNames().size(), 17U);
  EXPECT_EQ(GrpcCodeNames()[static_cast<int>(absl::StatusCode::kOk)], "OK");
  EXPECT_EQ(GrpcCodeNames()[static_cast<int>(absl::StatusCode::kCancelled)], "Canceled");
  EXPECT_EQ(GrpcCodeNames()[static_cast<int>(absl::StatusCode::kResourceExhausted)],
            "ResourceExhausted");
  EXPECT_EQ(GrpcCodeNames()[static_cast<int>(absl::StatusCode::kUnauthenticated)],
            "Unauthenticated");
}

}  // namespace
}  // namespace linchpin
