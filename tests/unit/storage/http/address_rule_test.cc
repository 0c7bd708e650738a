#include "storage/http/address_rule.h"

#include <arpa/inet.h>

#include <string>

#include "base/status.h"
#include "gtest/gtest.h"

namespace linchpin {
namespace {

bool Allows(const AddressRule& rule, const std::string& text) {
  sockaddr_storage storage = {};
  if (text.find(':') == std::string::npos) {
    auto& address = reinterpret_cast<sockaddr_in&>(storage);
    address.sin_family = AF_INET;
    EXPECT_EQ(inet_pton(AF_INET, text.c_str(), &address.sin_addr), 1) << text;
  } else {
    auto& address = reinterpret_cast<sockaddr_in6&>(storage);
    address.sin6_family = AF_INET6;
    EXPECT_EQ(inet_pton(AF_INET6, text.c_str(), &address.sin6_addr), 1) << text;
  }
  return rule.Allows(reinterpret_cast<const sockaddr&>(storage));
}

TEST(AddressRule, AllowsPublicAddressesOnly) {
  const AddressRule rule = *AddressRule::Create({});
  for (const char* address :
       {"8.8.8.8", "52.216.0.1", "172.15.255.255", "172.32.0.0", "9.255.255.255", "100.63.255.255",
        "100.128.0.0", "223.255.255.255", "2606:4700::1", "2a00:1450::1", "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8"}) {
    EXPECT_TRUE(Allows(rule, address)) << address;
  }
}

TEST(AddressRule, RefusesWhatIsPrivateHoweverItIsWritten) {
  const AddressRule rule = *AddressRule::Create({});
  for (const char* address : {"127.0.0.1",
                              "127.255.255.254",
                              "0.0.0.0",
                              "0.1.2.3",
                              "10.0.0.1",
                              "172.16.0.1",
                              "172.31.255.255",
                              "192.168.1.1",
                              "169.254.169.254",
                              "100.64.0.1",
                              "198.18.0.1",
                              "192.0.2.1",
                              "224.0.0.1",
                              "240.0.0.1",
                              "255.255.255.255",
                              "::",
                              "::1",
                              "fe80::1",
                              "fec0::1",
                              "fc00::1",
                              "fd00:ec2::254",
                              "ff02::1",
                              "::ffff:127.0.0.1",
                              "::ffff:169.254.169.254",
                              "::127.0.0.1",
                              "64:ff9b::127.0.0.1",
                              "64:ff9b::a9fe:a9fe",
                              "64:ff9b:1::1",
                              "2002:7f00:1::",
                              "2001::1",
                              "2001:db8::1",
                              "100::1",
                              "4000::1"}) {
    EXPECT_FALSE(Allows(rule, address)) << address;
  }
}

TEST(AddressRule, AllowsWhatTheOperatorNamed) {
  const AddressRule rule = *AddressRule::Create({"10.1.0.0/16", "127.0.0.1", "fd00:1::/33"});
  EXPECT_TRUE(Allows(rule, "10.1.255.255"));
  EXPECT_FALSE(Allows(rule, "10.2.0.0"));
  EXPECT_TRUE(Allows(rule, "127.0.0.1"));
  EXPECT_TRUE(Allows(rule, "::ffff:127.0.0.1"));
  EXPECT_FALSE(Allows(rule, "127.0.0.2"));
  EXPECT_TRUE(Allows(rule, "fd00:1:7fff::1"));
  EXPECT_FALSE(Allows(rule, "fd00:1:8000::1"));
  EXPECT_TRUE(Allows(*AddressRule::Create({"0.0.0.0/0"}), "10.0.0.1"));
}

TEST(AddressRule, RefusesWhatIsNoNetwork) {
  for (const char* text : {"", "localhost", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/x", "10.0.0/8",
                           "fd00::/129", "fd00::/-1", "010.0.0.1"}) {
    EXPECT_EQ(ReasonOf(AddressRule::Create({text}).status()), Reason::kOptionInvalid) << text;
  }
}

TEST(AddressRule, RefusesOtherFamilies) {
  sockaddr address = {};
  address.sa_family = AF_UNIX;
  EXPECT_FALSE(AddressRule::Create({"0.0.0.0/0", "::/0"})->Allows(address));
}

}  // namespace
}  // namespace linchpin
