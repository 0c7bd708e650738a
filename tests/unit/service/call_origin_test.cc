#include "service/call_origin.h"

#include <string>

#include "gtest/gtest.h"

namespace linchpin {
namespace {

constexpr char kTrace[] = "0af7651916cd43dd8448eb211c80319c";

// The examples of https://www.w3.org/TR/trace-context.
TEST(TraceOf, ReadsTheStandardsHeader) {
  EXPECT_EQ(TraceOf("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), kTrace);
  EXPECT_EQ(TraceOf("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"), kTrace);
  EXPECT_EQ(TraceOf("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more"), kTrace);
}

TEST(TraceOf, IsEmptyForAnythingElse) {
  for (const std::string text : {"", "00", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
                                 "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
                                 "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                                 "00-00000000000000000000000000000000-b7ad6b7169203331-01",
                                 "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
                                 "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
                                 "00-0af7651916cd43dd8448eb211c8031\"c-b7ad6b7169203331-01",
                                 "00_0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331_01",
                                 "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01.more"}) {
    EXPECT_EQ(TraceOf(text), "") << text;
  }
}

}  // namespace
}  // namespace linchpin
