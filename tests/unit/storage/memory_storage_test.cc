#include "storage/memory_storage.h"

#include <string>

#include "base/status.h"
#include "gtest/gtest.h"
#include "tests/support/safetensors_file.h"

namespace linchpin {
namespace {

TEST(MemoryStorage, HandsOutWhatWasPut) {
  MemoryStorage storage;
  EXPECT_EQ(storage.Get("a/b"), nullptr);
  const MemoryStorage::Bytes bytes = ToBytes("abc");
  storage.Put("a/b", bytes);
  EXPECT_EQ(storage.Get("a/b"), bytes) << "the same memory, not a copy";
  storage.Put("a/b", ToBytes("new"));
  EXPECT_EQ(ToText(storage.Get("a/b")), "new");
}

TEST(MemoryStorage, RemovedMemoryIsReturnedAtOnce) {
  MemoryStorage storage;
  storage.Put("a", ToBytes("abc"));
  const std::weak_ptr<ZeroedBytes> watch = storage.Get("a");
  EXPECT_FALSE(watch.expired());
  storage.Remove("a");
  EXPECT_TRUE(watch.expired());
  EXPECT_EQ(ReasonOf(storage.Open("a").status()), Reason::kSourceNotFound);
  storage.Remove("a");
}

TEST(MemoryStorage, AnOpenFileOutlivesItsRemoval) {
  MemoryStorage storage;
  storage.Put("a", ToBytes("abc"));
  const auto file = storage.Open("a");
  ASSERT_TRUE(file.ok());
  storage.Remove("a");
  std::byte first;
  EXPECT_TRUE((*file)->ReadAt(0, absl::MakeSpan(&first, 1)).ok());
  EXPECT_EQ(first, static_cast<std::byte>('a'));
}

TEST(MemoryStorage, NoticesAFileThatShrank) {
  MemoryStorage storage;
  const MemoryStorage::Bytes bytes = ToBytes("abc");
  storage.Put("a", bytes);
  const auto file = storage.Open("a");
  ASSERT_TRUE(file.ok());
  bytes->Shrink(1);
  std::byte first;
  EXPECT_EQ(ReasonOf((*file)->CheckUnchanged()), Reason::kSourceChanged);
  EXPECT_EQ(ReasonOf((*file)->ReadAt(0, absl::MakeSpan(&first, 1))), Reason::kSourceChanged);
}

TEST(MemoryStorage, CommittedFilesAreFoundByTheirPath) {
  MemoryStorage storage;
  auto output = storage.CreateDirectory("out", false);
  ASSERT_TRUE(output.ok());
  ASSERT_TRUE((*output)->CreateFile("sub/a", 3).ok());
  EXPECT_EQ(storage.Get("out/sub/a"), nullptr);
  ASSERT_TRUE((*output)->Commit().ok());
  ASSERT_NE(storage.Get("out/sub/a"), nullptr);
  EXPECT_EQ(storage.Get("out/sub/a")->size(), 3u);
}

}  // namespace
}  // namespace linchpin
