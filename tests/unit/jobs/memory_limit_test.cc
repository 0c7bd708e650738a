#include "jobs/memory_limit.h"

#include <cstdlib>
#include <fstream>
#include <string>

#include "gtest/gtest.h"

namespace linchpin {
namespace {

namespace fs = std::filesystem;
constexpr uint64_t kGiB = uint64_t{1} << 30;

class MemoryLimitTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "cgroupXXXXXX";
    root_ = mkdtemp(pattern.data());
  }
  void TearDown() override { fs::remove_all(root_); }

  void Write(const fs::path& file, const std::string& text) {
    fs::create_directories((root_ / file).parent_path());
    std::ofstream(root_ / file) << text << "\n";
  }
  uint64_t Limit() {
    return MemoryLimit({.cgroup_file = root_ / "self",
                        .cgroup_root = root_ / "cgroup",
                        .physical_bytes = 64 * kGiB});
  }

  fs::path root_;
};

TEST_F(MemoryLimitTest, IsPhysicalMemoryWithoutCgroups) { EXPECT_EQ(Limit(), 64 * kGiB); }

TEST_F(MemoryLimitTest, ReadsVersion2OnTheWayToTheRoot) {
  Write("self", "0::/pods/one/container");
  Write("cgroup/pods/memory.max", "34359738368");
  Write("cgroup/pods/one/memory.max", "4294967296");
  Write("cgroup/pods/one/container/memory.max", "max");
  EXPECT_EQ(Limit(), 4 * kGiB);
}

TEST_F(MemoryLimitTest, ReadsTheRootThatAContainerSees) {
  Write("self", "0::/../../not/visible/here");
  Write("cgroup/memory.max", "2147483648");
  EXPECT_EQ(Limit(), 2 * kGiB);
}

TEST_F(MemoryLimitTest, ReadsVersion1) {
  Write("self", "9:name=systemd:/\n4:cpu,memory:/box\n0::/");
  Write("cgroup/memory/memory.limit_in_bytes", "9223372036854771712");
  Write("cgroup/memory/box/memory.limit_in_bytes", "1073741824");
  EXPECT_EQ(Limit(), 1 * kGiB);
}

TEST_F(MemoryLimitTest, IgnoresWhatIsNoNumber) {
  Write("self", "garbage\n0::/a");
  Write("cgroup/a/memory.max", "lots");
  EXPECT_EQ(Limit(), 64 * kGiB);
}

TEST(MemoryLimit, AsksTheSystem) {
  const uint64_t limit = MemoryLimit();
  EXPECT_GT(limit, uint64_t{64} << 20);
  EXPECT_LT(limit, uint64_t{1} << 50);
}

TEST(MemoryForJobs, LeavesRoomForTheServer) {
  EXPECT_EQ(MemoryForJobs(4 * kGiB), 4 * kGiB - (uint64_t{384} << 20));
  EXPECT_EQ(MemoryForJobs(uint64_t{256} << 20), uint64_t{64} << 20);
}

}  // namespace
}  // namespace linchpin
