#include "client/call_token.h"

#include <gtest/gtest.h>

#include "client/errors.h"
#include "tests/support/temporary_directory.h"

namespace linchpin {
namespace {

TEST(CheckTokenFile, TakesOneTokenAndTheEndOfItsLine) {
  TemporaryDirectory directory;
  for (const char* text : {"abc.def.ghi", "abc.def.ghi\n", "abc.def.ghi \r\n"}) {
    EXPECT_TRUE(CheckTokenFile(directory.Write("token", text)).ok()) << text;
  }
}

// A line break or a second header must not get into the metadata.
TEST(CheckTokenFile, RefusesWhatIsNoTokenAndDoesNotQuoteIt) {
  TemporaryDirectory directory;
  for (const std::string& text :
       {std::string(), std::string("\n"), std::string("abc def"), std::string("abc\nx-other: 1"),
        std::string("abc\x01"), std::string("abc\0def", 7), std::string(20 << 10, 'a')}) {
    const grpc::Status status = CheckTokenFile(directory.Write("token", text));
    EXPECT_FALSE(status.ok()) << text;
    EXPECT_EQ(status.error_message().find("abc"), std::string::npos);
  }
  EXPECT_EQ(ReasonOf(CheckTokenFile(directory / "absent")), "SOURCE_NOT_FOUND");
}

}  // namespace
}  // namespace linchpin
