#include "service/listen_address.h"

#include <string>

#include "base/status.h"
#include "gtest/gtest.h"

namespace linchpin {
namespace {

TEST(ListenAddress, KnowsWhatStaysOnThisMachine) {
  for (const char* text : {"unix:/run/linchpin.sock", "127.0.0.1:50051", "127.8.9.1:1",
                           "localhost:50051", "[::1]:50051"}) {
    const auto address = ListenAddress::Parse(text);
    ASSERT_TRUE(address.ok()) << text << address.status();
    EXPECT_TRUE(address->local()) << text;
    EXPECT_EQ(address->text, text);
  }
}

TEST(ListenAddress, KnowsWhatDoesNot) {
  for (const char* text : {"0.0.0.0:50051", "[::]:50051", "192.168.1.2:50051", "example.com:1",
                           "128.0.0.1:1", "127.0.0.1.example.com:1", "[::ffff:1.2.3.4]:5"}) {
    const auto address = ListenAddress::Parse(text);
    ASSERT_TRUE(address.ok()) << text << address.status();
    EXPECT_FALSE(address->local()) << text;
  }
}

TEST(ListenAddress, RefusesWhatIsNone) {
  for (const std::string& text :
       {std::string(), std::string("50051"), std::string(":50051"), std::string("host"),
        std::string("host:"), std::string("host:abc"), std::string("host:70000"),
        std::string("host:-1"), std::string("unix:relative"), std::string("unix:"),
        std::string("::1:50051"), std::string("tcp://host:1"), "unix:/" + std::string(200, 'x')}) {
    EXPECT_EQ(ReasonOf(ListenAddress::Parse(text).status()), Reason::kOptionInvalid) << text;
  }
}

}  // namespace
}  // namespace linchpin
