#include "storage/zeroed_bytes.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <memory>
#include <new>
#include <vector>

#include "gtest/gtest.h"

namespace linchpin {
namespace {

constexpr size_t kMiB = size_t{1} << 20;

// Writes `count` bytes of `value` and tells so.
void Fill(ZeroedBytes& bytes, size_t count, int value = 'x') {
  std::memset(bytes.data(), value, count);
  bytes.Written(count);
}

bool AllZero(const ZeroedBytes& bytes) {
  return std::all_of(bytes.data(), bytes.data() + bytes.size(),
                     [](std::byte byte) { return byte == std::byte{0}; });
}

TEST(ZeroedBytes, AreZeroWhateverWasThereBefore) {
  for (const size_t size : {size_t{1}, 8 * kMiB, 5 * kMiB, 20 * kMiB + 1, 4 * kMiB, 3 * kMiB}) {
    ZeroedBytes bytes(size);
    ASSERT_EQ(bytes.size(), size);
    EXPECT_TRUE(AllZero(bytes)) << size;
    Fill(bytes, size);
  }
}

TEST(ZeroedBytes, KeepWhatWasWrittenAndNoMore) {
  std::vector<std::unique_ptr<ZeroedBytes>> others;  // have what other tests left
  while (ZeroedBytes::KeptBytes() > 0) {
    others.push_back(std::make_unique<ZeroedBytes>(ZeroedBytes::kKept));
  }
  { ZeroedBytes announced(100 * kMiB); }
  EXPECT_EQ(ZeroedBytes::KeptBytes(), 0U);
  {
    ZeroedBytes bytes(100 * kMiB);
    Fill(bytes, 5 * kMiB);
  }
  EXPECT_EQ(ZeroedBytes::KeptBytes(), 6 * kMiB) << "whole huge pages";
  { ZeroedBytes announced(100 * kMiB); }
  EXPECT_EQ(ZeroedBytes::KeptBytes(), 6 * kMiB) << "who writes nothing takes nothing away";
  ZeroedBytes piece(4 * kMiB);
  EXPECT_EQ(ZeroedBytes::KeptBytes(), 2 * kMiB);
  ZeroedBytes more(8 * kMiB);
  EXPECT_EQ(ZeroedBytes::KeptBytes(), 0U);
  EXPECT_TRUE(AllZero(piece));
  EXPECT_TRUE(AllZero(more));
  Fill(piece, 4 * kMiB, 'p');
  EXPECT_TRUE(AllZero(more)) << "they are apart";
}

TEST(ZeroedBytes, KeepNoMoreThanTheLimit) {
  {
    ZeroedBytes large(ZeroedBytes::kKept + 16 * kMiB);
    ZeroedBytes other(8 * kMiB);
    Fill(other, 8 * kMiB);
    large.Written(large.size());
  }
  EXPECT_EQ(ZeroedBytes::KeptBytes(), ZeroedBytes::kKept);
}

TEST(ZeroedBytes, BytesThatNobodyToldOfDoNotComeBack) {
  {
    ZeroedBytes bytes(16 * kMiB);
    std::memset(bytes.data(), 'x', bytes.size());
    bytes.Written(6 * kMiB);
  }
  ZeroedBytes bytes(16 * kMiB);
  EXPECT_TRUE(AllZero(bytes));
}

// Of the whole process.
size_t ResidentBytes() {
  size_t all = 0;
  size_t resident = 0;
  std::ifstream("/proc/self/statm") >> all >> resident;
  return resident * static_cast<size_t>(sysconf(_SC_PAGESIZE));
}

TEST(ZeroedBytes, SparseOnesTakeThePagesThatWereTouchedAndGoBackWhole) {
  const size_t kept = ZeroedBytes::KeptBytes();
  const size_t before = ResidentBytes();
  {
    ZeroedBytes bytes(1024 * kMiB, /*sparse=*/true);
    for (size_t at = 0; at < bytes.size(); at += 2 * kMiB) bytes[at] = std::byte{1};
    bytes.Written(bytes.size());
    EXPECT_LT(ResidentBytes(), before + 100 * kMiB) << "512 pages";
    EXPECT_EQ(bytes[4 * kMiB + 1], std::byte{0});
  }
  EXPECT_EQ(ZeroedBytes::KeptBytes(), kept);
}

TEST(ZeroedBytes, MoreThanThereIsIsRefused) {
  EXPECT_THROW(ZeroedBytes(size_t{1} << 60), std::bad_alloc);
  EXPECT_THROW(ZeroedBytes(size_t{1} << 60, /*sparse=*/true), std::bad_alloc);
}

}  // namespace
}  // namespace linchpin
