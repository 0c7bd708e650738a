#include "base/status.h"

#include <memory>
#include <set>
#include <string>

#include "gtest/gtest.h"

namespace linchpin {
namespace {

TEST(Reasons, TheTableHoldsEveryReasonOnceInOrder) {
  const auto& reasons = AllReasons();
  ASSERT_EQ(reasons.size(), static_cast<size_t>(Reason::kInternal));
  std::set<std::string_view> names;
  for (size_t i = 0; i < reasons.size(); ++i) {
    EXPECT_EQ(static_cast<size_t>(reasons[i].reason), i + 1) << reasons[i].name;
    EXPECT_TRUE(names.insert(reasons[i].name).second) << reasons[i].name << " twice";
    EXPECT_NE(reasons[i].code, absl::StatusCode::kOk);
    EXPECT_EQ(&InfoOf(reasons[i].reason), &reasons[i]);
  }
}

TEST(Reasons, NamesAreUpperSnakeCase) {
  for (const ReasonInfo& info : AllReasons()) {
    EXPECT_EQ(info.name.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZ_"), std::string_view::npos)
        << info.name;
    EXPECT_LE(info.name.size(), 63u) << "google.rpc.ErrorInfo.reason allows 63";
  }
}

TEST(Error, CarriesReasonCodeAndAMessageOfThreeParts) {
  const absl::Status status = Error(Reason::kBusy, "job", "no slot is free", "try again");
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(status.message(), "job: no slot is free: try again");
  EXPECT_EQ(ReasonOf(status), Reason::kBusy);
  EXPECT_EQ(Error(Reason::kBusy, "job", "no slot").message(), "job: no slot");
}

TEST(Error, EveryReasonComesBack) {
  for (const ReasonInfo& info : AllReasons()) {
    const absl::Status status = Error(info.reason, "what", "why");
    EXPECT_EQ(ReasonOf(status), info.reason);
    EXPECT_EQ(status.code(), info.code);
  }
}

TEST(Error, IsOneLine) {
  EXPECT_EQ(Error(Reason::kInternal, "a\nb", "c\r\td", "e\x7f").message(), "a b: c  d: e ");
}

TEST(Error, IsUtf8WhateverTheNamesWere) {
  const auto shown = [](std::string_view text) {
    return std::string(Error(Reason::kInternal, text, "x").message());
  };
  EXPECT_EQ(shown("\xe2\x96\x81 \xc3\xa9 \xf0\x9f\x98\x80"),
            "\xe2\x96\x81 \xc3\xa9 \xf0\x9f\x98\x80: x");
  EXPECT_EQ(shown("\xff"), "?: x");
  EXPECT_EQ(shown("\x80"
                  "a"),
            "?a: x");
  EXPECT_EQ(shown("\xc3"), "?: x") << "cut short";
  EXPECT_EQ(shown("\xe2\x96"
                  "b"),
            "??b: x")
      << "cut short";
  EXPECT_EQ(shown("\xc0\xaf"), "??: x") << "not the shortest form";
  EXPECT_EQ(shown("\xed\xa0\x80"), "???: x") << "a surrogate";
  EXPECT_EQ(shown("\xf4\x90\x80\x80"), "????: x") << "past U+10FFFF";
}

TEST(Error, HidesWhatAUriMayHoldOfSecrets) {
  const auto shown = [](std::string_view what) {
    return std::string(Error(Reason::kInternal, what, "why").message());
  };
  EXPECT_EQ(shown("https://user:secret@host/a"), "https://***@host/a: why");
  EXPECT_EQ(shown("https://a@b@host/x"), "https://***@host/x: why");
  EXPECT_EQ(shown("https://host/a?X-Amz-Signature=secret&b=c"), "https://host/a?***: why");
  EXPECT_EQ(shown("\"s3://b/k?secret\" and \"https://u:p@h/?q#f\""),
            "\"s3://b/k?***\" and \"https://***@h/?***\": why");
  for (const char* plain :
       {"https://host/a@b", "s3://bucket/key", "a?b", "user@host", "://", "/a"}) {
    EXPECT_EQ(shown(plain), std::string(plain) + ": why");
  }
}

TEST(ReasonOf, KnowsStatusesMadeElsewhere) {
  EXPECT_EQ(ReasonOf(absl::OkStatus()), Reason::kUnspecified);
  EXPECT_EQ(ReasonOf(absl::CancelledError("x")), Reason::kCancelled);
  EXPECT_EQ(ReasonOf(absl::UnavailableError("x")), Reason::kInternal);
}

absl::Status Pass(const absl::Status& status) {
  RETURN_IF_ERROR(status);
  return Error(Reason::kInternal, "after", "it was OK");
}

absl::StatusOr<int> TwiceOf(absl::StatusOr<std::unique_ptr<int>> value) {
  ASSIGN_OR_RETURN(const std::unique_ptr<int> pointer, std::move(value));
  return 2 * *pointer;
}

TEST(Macros, PassErrorsOnAndLetTheRestThrough) {
  EXPECT_EQ(ReasonOf(Pass(Error(Reason::kBusy, "a", "b"))), Reason::kBusy);
  EXPECT_EQ(ReasonOf(Pass(absl::OkStatus())), Reason::kInternal);
  EXPECT_EQ(TwiceOf(std::make_unique<int>(4)).value(), 8);
  EXPECT_EQ(ReasonOf(TwiceOf(Error(Reason::kBusy, "a", "b")).status()), Reason::kBusy);
}

}  // namespace
}  // namespace linchpin
