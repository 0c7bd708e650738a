#include "storage/scratch.h"

#include <sys/stat.h>

#include <filesystem>
#include <string>

#include "base/status.h"
#include "gtest/gtest.h"
#include "tests/support/temporary_directory.h"

namespace linchpin {
namespace {

namespace fs = std::filesystem;

size_t EntriesOf(const fs::path& directory) {
  return static_cast<size_t>(
      std::distance(fs::directory_iterator(directory), fs::directory_iterator()));
}

TEST(Scratch, APlaceTakesFilesAndGoesWithThem) {
  const TemporaryDirectory directory;
  const auto scratch = *Scratch::Create(directory.path());
  EXPECT_GT(scratch->free_bytes(), 0U);
  auto place = *scratch->NewPlace();
  const auto output = *place->storage().CreateDirectory(place->path() + "/model", false);
  ASSERT_TRUE((*output->CreateFile("a", 3))->WriteAt(1, std::vector<std::byte>(2)).ok());
  ASSERT_TRUE(output->Commit().ok());
  EXPECT_EQ((*place->storage().Open(place->path() + "/model/a"))->size(), 3U);
  const fs::path path = place->path();
  place.reset();
  EXPECT_FALSE(fs::exists(path));
}

TEST(Scratch, PlacesAreTheirOwnAndNobodyElseReadsThem) {
  const TemporaryDirectory directory;
  const auto scratch = *Scratch::Create(directory.path());
  const auto first = *scratch->NewPlace();
  const auto second = *scratch->NewPlace();
  EXPECT_NE(first->path(), second->path());
  EXPECT_EQ(ReasonOf(first->storage().Open(second->path() + "/a").status()),
            Reason::kPathNotAllowed);
  struct stat info;
  ASSERT_EQ(stat(first->path().c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0700U);
}

TEST(Scratch, TakesAwayWhatKilledServersLeftAndNothingElse) {
  const TemporaryDirectory directory;
  directory.Write("linchpin-scratch-killed/call-x/model/a", "left");
  directory.Write("of-somebody-else/a", "kept");
  const auto running = *Scratch::Create(directory.path());
  const auto place = *running->NewPlace();
  const auto second = *Scratch::Create(directory.path());
  EXPECT_FALSE(fs::exists(directory.path() / "linchpin-scratch-killed"));
  EXPECT_TRUE(fs::exists(directory.path() / "of-somebody-else/a"));
  EXPECT_TRUE(fs::exists(place->path())) << "its server still runs";
}

TEST(Scratch, LeavesNothingItself) {
  const TemporaryDirectory directory;
  { const auto scratch = *Scratch::Create(directory.path()); }
  EXPECT_EQ(EntriesOf(directory.path()), 0U);
}

TEST(Scratch, RefusesWhatIsNoDirectory) {
  const TemporaryDirectory directory;
  const std::string file = directory.Write("file", "x");
  for (const std::string& path : {std::string("relative"), file, file + "/none"}) {
    const absl::Status status = Scratch::Create(path).status();
    EXPECT_EQ(ReasonOf(status), Reason::kOptionInvalid) << path;
    EXPECT_NE(std::string(status.message()).find("--scratch-dir"), std::string::npos);
  }
}

}  // namespace
}  // namespace linchpin
