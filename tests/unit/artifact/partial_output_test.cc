#include "artifact/partial_output.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "storage/memory_storage.h"
#include "tests/support/safetensors_file.h"

namespace linchpin {
namespace {

TEST(PartialOutput, KeepsWhatItIsToldToAndForgetsTheRest) {
  MemoryStorage storage;
  const auto directory = *storage.CreateDirectory("/out", false);
  PartialOutput partial(*directory, [](std::string_view name) { return name == "kept"; });
  const MemoryStorage::Bytes text = ToBytes("four");
  for (const char* name : {"kept", "forgotten"}) {
    const auto file = partial.CreateFile(name, 4);
    ASSERT_TRUE(file.ok()) << file.status();
    EXPECT_TRUE((*file)->WriteAt(0, *text).ok());
    std::vector<std::byte> read(4, std::byte{1});
    EXPECT_TRUE((*file)->ReadAt(0, absl::MakeSpan(read)).ok());
    EXPECT_EQ(absl::MakeConstSpan(read) == absl::MakeConstSpan(text->data(), text->size()),
              std::string(name) == "kept");
  }
  ASSERT_TRUE(partial.Commit().ok());
  const auto files = *storage.List("/out");
  ASSERT_EQ(files.size(), 1U);
  EXPECT_EQ(files[0].name, "kept");
}

}  // namespace
}  // namespace linchpin
