#include "service/request_key.h"

#include <set>

#include "gtest/gtest.h"
#include "linchpin/v1/compression.pb.h"

namespace linchpin {
namespace {

TEST(KeyOf, TellsApartSourcesMessagesAndTheirOrder) {
  v1::DetectionOptions detection;
  v1::QuantizationOptions quantization;
  std::set<std::string> keys = {KeyOf("source"),
                                KeyOf("other"),
                                KeyOf("source", detection),
                                KeyOf("source", quantization),
                                KeyOf("source", detection, quantization),
                                KeyOf("source", quantization, detection)};
  EXPECT_EQ(keys.size(), 6U);
  quantization.set_group_size(32);
  EXPECT_TRUE(keys.insert(KeyOf("source", detection, quantization)).second);
  EXPECT_FALSE(keys.insert(KeyOf("source", detection, quantization)).second);
}

TEST(CanonicalBytes, NameTheMessage) {
  v1::TokenSource a;
  a.set_text("x");
  EXPECT_NE(CanonicalBytes(a).find("linchpin.v1.TokenSource"), std::string::npos);
  EXPECT_NE(CanonicalBytes(v1::Windows()), CanonicalBytes(v1::ArtifactFinish()));
}

}  // namespace
}  // namespace linchpin
