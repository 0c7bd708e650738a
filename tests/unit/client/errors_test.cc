#include "client/errors.h"

#include <gtest/gtest.h>

#include <cerrno>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace linchpin {
namespace {

using grpc::StatusCode;

TEST(ExitCodeOf, FollowsTheTable) {
  const std::pair<StatusCode, int> kTable[] = {
      {StatusCode::OK, 0},
      {StatusCode::CANCELLED, 1},
      {StatusCode::UNKNOWN, 1},
      {StatusCode::INVALID_ARGUMENT, 42},
      {StatusCode::DEADLINE_EXCEEDED, 1},
      {StatusCode::NOT_FOUND, 42},
      {StatusCode::ALREADY_EXISTS, 42},
      {StatusCode::PERMISSION_DENIED, 42},
      {StatusCode::RESOURCE_EXHAUSTED, 75},
      {StatusCode::FAILED_PRECONDITION, 42},
      {StatusCode::ABORTED, 75},
      {StatusCode::OUT_OF_RANGE, 42},
      {StatusCode::UNIMPLEMENTED, 42},
      {StatusCode::INTERNAL, 1},
      {StatusCode::UNAVAILABLE, 75},
      {StatusCode::DATA_LOSS, 1},
      {StatusCode::UNAUTHENTICATED, 42},
  };
  for (const auto& [code, exit_code] : kTable) {
    EXPECT_EQ(ExitCodeOf(grpc::Status(code, "")), exit_code) << code;
  }
}

grpc::Status RichStatus() {
  google::rpc::RetryInfo retry;
  retry.mutable_retry_delay()->set_seconds(3);
  google::rpc::ErrorInfo info;
  info.set_reason("BUSY");
  info.set_domain("linchpin");
  google::rpc::Status rich;
  rich.add_details()->PackFrom(retry);
  rich.add_details()->PackFrom(info);
  return {StatusCode::RESOURCE_EXHAUSTED, "server: no slot is free: call again",
          rich.SerializeAsString()};
}

TEST(ReasonOf, IsThatOfErrorInfoAmongTheDetails) {
  EXPECT_EQ(ReasonOf(RichStatus()), "BUSY");
  EXPECT_TRUE(HasReason(RichStatus()));
}

TEST(ReasonOf, FallsBackToTheNameOfTheCode) {
  EXPECT_EQ(ReasonOf(grpc::Status(StatusCode::UNAVAILABLE, "x")), "UNAVAILABLE");
  EXPECT_EQ(ReasonOf(grpc::Status(StatusCode::UNAUTHENTICATED, "x")), "UNAUTHENTICATED");
  EXPECT_EQ(ReasonOf(grpc::Status(StatusCode::INTERNAL, "x", "not a proto \xff\xff")), "INTERNAL");
  EXPECT_EQ(ReasonOf(grpc::Status(static_cast<StatusCode>(99), "x")), "UNKNOWN");
  EXPECT_FALSE(HasReason(grpc::Status(StatusCode::UNAVAILABLE, "x")));
}

TEST(ErrorLine, PrintsTheServersMessageAndReason) {
  EXPECT_EQ(ErrorLine(RichStatus(), "host:1"), "error: server: no slot is free: call again [BUSY]");
}

TEST(ErrorLine, NamesTheEndpointWhereTheConnectionFailed) {
  const std::string line =
      ErrorLine(grpc::Status(StatusCode::UNAVAILABLE, "Connection refused"), "host:1");
  EXPECT_EQ(line.rfind("error: host:1: Connection refused: ", 0), 0U) << line;
  EXPECT_NE(line.find("[UNAVAILABLE]"), std::string::npos) << line;
}

TEST(ErrorLine, LetsTheRefusalOfACallerStandAlone) {
  EXPECT_EQ(ErrorLine(grpc::Status(StatusCode::UNAUTHENTICATED, "caller: no token"), "host:1"),
            "error: caller: no token [UNAUTHENTICATED]");
}

TEST(ErrorLine, IsOneLineWhateverTheServerSends) {
  const std::string line = ErrorLine(grpc::Status(StatusCode::INTERNAL, "a\nb\x1b[2J"), "h");
  EXPECT_EQ(line.find_first_of("\n\x1b"), std::string::npos);
}

TEST(LocalError, LooksLikeOneOfTheServers) {
  const auto status = LocalError(StatusCode::INVALID_ARGUMENT, "TOKENS_INVALID", "t.json",
                                 "is not JSON", "mend it");
  EXPECT_EQ(ErrorLine(status, "h"), "error: t.json: is not JSON: mend it [TOKENS_INVALID]");
  EXPECT_EQ(ExitCodeOf(status), kExitPermanent);
}

TEST(LocalError, LeavesAnEmptyRemedyOut) {
  EXPECT_EQ(LocalError(StatusCode::INTERNAL, "INTERNAL", "a", "b", "").error_message(), "a: b");
}

TEST(SystemError, ChoosesCodeAndReason) {
  EXPECT_EQ(ReasonOf(SystemError("f", ENOENT, "r")), "SOURCE_NOT_FOUND");
  EXPECT_EQ(ReasonOf(SystemError("f", EACCES, "r")), "PATH_NOT_ALLOWED");
  EXPECT_EQ(ReasonOf(SystemError("f", EEXIST, "r")), "OUTPUT_EXISTS");
  EXPECT_EQ(ReasonOf(SystemError("f", ENOSPC, "r")), "STORAGE_FAILED");
  EXPECT_EQ(SystemError("f", ENOENT, "r").error_message(), "f: No such file or directory: r");
}

}  // namespace
}  // namespace linchpin
