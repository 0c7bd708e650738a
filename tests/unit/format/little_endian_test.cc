#include "format/little_endian.h"

#include <string_view>

#include "gtest/gtest.h"

namespace linchpin {
namespace {

using namespace std::string_view_literals;

TEST(LittleEndian, PutsTheLeastSignificantByteFirst) {
  EXPECT_EQ(LittleEndian(uint8_t{0xfe}), "\xfe");
  EXPECT_EQ(LittleEndian(uint32_t{0x01020380}), "\x80\x03\x02\x01");
  EXPECT_EQ(LittleEndian(uint64_t{0x8102030405060708}), "\x08\x07\x06\x05\x04\x03\x02\x81");
  EXPECT_EQ(LittleEndian(uint64_t{1}), "\x01\0\0\0\0\0\0\0"sv);
}

TEST(LittleEndian, IsReadByAsManyBytesAsThereAre) {
  EXPECT_EQ(LoadLittleEndian(""), 0U);
  EXPECT_EQ(LoadLittleEndian("\xff"), 0xffU) << "no sign";
  EXPECT_EQ(LoadLittleEndian("\x80\x03\x02\x01"), 0x01020380U);
  EXPECT_EQ(LoadLittleEndian("\x08\x07\x06\x05\x04\x03\x02\x81"), 0x8102030405060708U);
  EXPECT_EQ(LoadLittleEndian("\0\0\x01"sv), 0x10000U);
}

}  // namespace
}  // namespace linchpin
