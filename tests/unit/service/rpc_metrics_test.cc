#include "service/rpc_metrics.h"

#include <set>
#include <string>

#include "gtest/gtest.h"

namespace linchpin {
namespace {

std::string TypeOf(const std::string& name) {
  for (const RpcMethod& method : ServedMethods()) {
    if (method.method == name) return method.type;
  }
  return "absent";
}

TEST(ServedMethods, HoldsEveryMethodWithItsType) {
  EXPECT_EQ(TypeOf("GetCapabilities"), "unary");
  EXPECT_EQ(TypeOf("PlanCompression"), "unary");
  EXPECT_EQ(TypeOf("CreateDemoModel"), "unary");
  EXPECT_EQ(TypeOf("DetectSuperWeights"), "server_stream");
  EXPECT_EQ(TypeOf("CompressModel"), "server_stream");
  EXPECT_EQ(TypeOf("VerifyArtifact"), "server_stream");
  EXPECT_EQ(TypeOf("EvaluateCompression"), "server_stream");
  EXPECT_EQ(TypeOf("CompressArtifact"), "bidi_stream");
  EXPECT_EQ(TypeOf("Check"), "unary");
  EXPECT_EQ(TypeOf("Watch"), "server_stream");
  EXPECT_EQ(TypeOf("ServerReflectionInfo"), "bidi_stream");
}

TEST(ServedMethods, NamesEachOnce) {
  std::set<std::string> paths;
  for (const RpcMethod& method : ServedMethods()) paths.insert(method.service + method.method);
  EXPECT_EQ(paths.size(), ServedMethods().size());
}

}  // namespace
}  // namespace linchpin
