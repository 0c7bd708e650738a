#include "service/status_conversion.h"

#include <map>
#include <string>

#include "gmock/gmock.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "tests/support/running_server.h"

namespace linchpin {
namespace {

TEST(StatusConversion, EveryReasonTravelsWithItsCodeAndName) {
  for (const ReasonInfo& info : AllReasons()) {
    const grpc::Status status = ToGrpcStatus(Error(info.reason, "file", "why", "remedy"));
    EXPECT_EQ(static_cast<int>(status.error_code()), static_cast<int>(info.code)) << info.name;
    EXPECT_EQ(status.error_message(), "file: why: remedy");
    const RichError rich = RichErrorOf(status);
    EXPECT_EQ(rich.info.reason(), info.name);
    EXPECT_EQ(rich.info.domain(), "linchpin");
    const bool passes = info.code == absl::StatusCode::kUnavailable ||
                        info.code == absl::StatusCode::kResourceExhausted;
    EXPECT_EQ(rich.retry.has_value(), passes) << info.name;
  }
}

TEST(StatusConversion, CodesAreThoseOfTheApi) {
  const std::map<Reason, grpc::StatusCode> expected = {
      {Reason::kTensorRangeInvalid, grpc::StatusCode::INVALID_ARGUMENT},
      {Reason::kDigestMismatch, grpc::StatusCode::INVALID_ARGUMENT},
      {Reason::kOptionInvalid, grpc::StatusCode::INVALID_ARGUMENT},
      {Reason::kFamilyUnsupported, grpc::StatusCode::UNIMPLEMENTED},
      {Reason::kSourceNotFound, grpc::StatusCode::NOT_FOUND},
      {Reason::kSourceChanged, grpc::StatusCode::FAILED_PRECONDITION},
      {Reason::kPathNotAllowed, grpc::StatusCode::PERMISSION_DENIED},
      {Reason::kOutputExists, grpc::StatusCode::ALREADY_EXISTS},
      {Reason::kExceedsServerLimit, grpc::StatusCode::FAILED_PRECONDITION},
      {Reason::kBusy, grpc::StatusCode::RESOURCE_EXHAUSTED},
      {Reason::kDraining, grpc::StatusCode::UNAVAILABLE},
      {Reason::kCancelled, grpc::StatusCode::CANCELLED},
      {Reason::kInternal, grpc::StatusCode::INTERNAL}};
  for (const auto& [reason, code] : expected) {
    EXPECT_EQ(ToGrpcStatus(Error(reason, "a", "b")).error_code(), code) << InfoOf(reason).name;
  }
}

TEST(StatusConversion, OkIsOk) {
  const grpc::Status status = ToGrpcStatus(absl::OkStatus());
  EXPECT_TRUE(status.ok());
  EXPECT_TRUE(status.error_details().empty());
}

TEST(StatusConversion, ForeignStatusesBecomeInternal) {
  const grpc::Status status = ToGrpcStatus(absl::NotFoundError("from a library"));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INTERNAL);
  EXPECT_EQ(RichErrorOf(status).info.reason(), "INTERNAL");
}

TEST(StatusConversion, DetailsBecomeMetadata) {
  const absl::Status status =
      WithDetail(Error(Reason::kExceedsServerLimit, "job", "big"), "limit_bytes", "4096");
  const RichError rich = RichErrorOf(ToGrpcStatus(status));
  EXPECT_THAT(rich.info.metadata(), testing::SizeIs(1));
  EXPECT_EQ(rich.info.metadata().at("limit_bytes"), "4096");
}

TEST(StatusConversion, RetryDelaysAreInTheDetails) {
  const RichError rich = RichErrorOf(ToGrpcStatus(Error(Reason::kBusy, "server", "full")));
  ASSERT_TRUE(rich.retry.has_value());
  const auto milliseconds =
      rich.retry->retry_delay().seconds() * 1000 + rich.retry->retry_delay().nanos() / 1'000'000;
  EXPECT_EQ(milliseconds, RetryDelay(Reason::kBusy)->count());
  EXPECT_GT(milliseconds, 0);
  EXPECT_EQ(RetryDelay(Reason::kUnspecified), std::nullopt);
}

struct FakeContext {
  std::map<std::string, std::string> trailers;
  void AddTrailingMetadata(const std::string& key, const std::string& value) {
    trailers[key] = value;
  }
};

TEST(StatusConversion, PushbackIsATrailer) {
  FakeContext busy;
  EndCall(busy, Error(Reason::kBusy, "server", "full"));
  EXPECT_THAT(busy.trailers, testing::ElementsAre(testing::Pair("grpc-retry-pushback-ms", "1000")));
  FakeContext other;
  EndCall(other, Error(Reason::kNotFinite, "t", "NaN"));
  EndCall(other, absl::OkStatus());
  EXPECT_TRUE(other.trailers.empty());
}

TEST(StatusConversion, LongMessagesAreCutBetweenCharacters) {
  std::string text;
  for (int i = 0; i < 2000; ++i) text += "\xc3\xa4";
  const grpc::Status status = ToGrpcStatus(Error(Reason::kHeaderInvalid, "file", text));
  EXPECT_LT(status.error_message().size(), 1100U);
  EXPECT_LT(status.error_details().size(), 1400U);
  EXPECT_TRUE(status.error_message().ends_with("\xc3\xa4..."));
}

TEST(ValidUtf8, KeepsWhatIsAndReplacesWhatIsNot) {
  const std::string good = "a\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80z";
  EXPECT_EQ(ValidUtf8(good), good);
  EXPECT_EQ(ValidUtf8("a\xff"
                      "b"),
            "a?b");
  EXPECT_EQ(ValidUtf8("\xc3"), "?");                 // cut off
  EXPECT_EQ(ValidUtf8("\xc0\x80"), "??");            // overlong
  EXPECT_EQ(ValidUtf8("\xe0\x80\x80"), "???");       // overlong
  EXPECT_EQ(ValidUtf8("\xed\xa0\x80"), "???");       // a surrogate
  EXPECT_EQ(ValidUtf8("\xf4\x90\x80\x80"), "????");  // beyond the last
  EXPECT_EQ(ValidUtf8(""), "");
}

}  // namespace
}  // namespace linchpin
