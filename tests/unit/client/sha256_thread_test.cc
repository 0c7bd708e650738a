#include "client/sha256_thread.h"

#include <gtest/gtest.h>

#include <string>

namespace linchpin {
namespace {

TEST(Sha256Thread, DigestsThePiecesInTheirOrder) {
  Sha256 expected;
  Sha256Thread digest;
  for (int i = 0; i < 1000; ++i) {  // many more than wait at a time
    const std::string piece(static_cast<size_t>(i), static_cast<char>(i));
    expected.Update(piece);
    digest.Update(piece);
  }
  EXPECT_EQ(digest.Hex(), expected.Hex());
}

TEST(Sha256Thread, DigestsNothing) {
  EXPECT_EQ(Sha256Thread().Hex(),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

TEST(Sha256Thread, MayBeGivenUpOnTheWay) {
  Sha256Thread digest;
  digest.Update(std::string(1 << 20, 'x'));
}

}  // namespace
}  // namespace linchpin
