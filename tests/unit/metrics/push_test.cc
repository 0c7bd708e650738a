#include "metrics/push.h"

#include "base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace linchpin {
namespace {

TEST(MetricsPush, TakesAddressesOfAGateway) {
  const Metrics metrics({"1", "2"}, {});
  for (const char* url : {"http://localhost:9091", "http://localhost:9091/", "https://gateway",
                          "http://[::1]:9091", "http://[::1]"}) {
    EXPECT_TRUE(MetricsPush::Create(url, metrics).ok()) << url;
  }
  for (const char* url : {"", "localhost:9091", "ftp://host:1", "http://", "http://host:port",
                          "http://host:1/path", "http://user:secret@host:1", "http://:9091"}) {
    const auto push = MetricsPush::Create(url, metrics);
    EXPECT_EQ(ReasonOf(push.status()), Reason::kOptionInvalid) << url;
    EXPECT_THAT(std::string(push.status().message()), testing::Not(testing::HasSubstr("secret")));
  }
}

TEST(MetricsPush, SaysThatNobodyListens) {
  const Metrics metrics({"1", "2"}, {});
  auto push = MetricsPush::Create("http://127.0.0.1:1", metrics);
  ASSERT_TRUE(push.ok()) << push.status();
  EXPECT_EQ(ReasonOf((*push)->Push()), Reason::kStorageFailed);
}

}  // namespace
}  // namespace linchpin
