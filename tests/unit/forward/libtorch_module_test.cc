// The module with LibTorch: loaded when it is asked for, refused where it does not fit.
#include "forward/libtorch_module.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "base/status.h"
#include "forward/libtorch_version.h"
#include "tests/support/shared.h"
#include "tests/support/temporary_directory.h"

namespace linchpin {
namespace {

using testing::HasSubstr;

bool Mapped(const std::string& library) {
  return ReadFileText("/proc/self/maps").find(library) != std::string::npos;
}

void ExpectRefused(const absl::StatusOr<const Computation*>& loaded, const std::string& file,
                   const std::string& why) {
  ASSERT_FALSE(loaded.ok());
  EXPECT_EQ(ReasonOf(loaded.status()), Reason::kInternal);
  const std::string message(loaded.status().message());
  EXPECT_THAT(message, HasSubstr(file + ": "));
  EXPECT_THAT(message, HasSubstr(why));
  EXPECT_THAT(message, HasSubstr("install it"));
}

// First in this program, which links it nowhere.
TEST(LibTorchModuleTest, IsNotThereBeforeItIsAskedFor) {
  EXPECT_FALSE(LibTorchVersion().empty());
  EXPECT_TRUE(HasLibTorch());
  EXPECT_FALSE(Mapped("libtorch_cpu"));
  const auto computation = LoadLibTorch();
  ASSERT_TRUE(computation.ok()) << computation.status();
  EXPECT_NE(*computation, nullptr);
  EXPECT_TRUE(Mapped("libtorch_cpu"));
}

TEST(LibTorchModuleTest, IsLoadedOnceForAllThreads) {
  std::vector<const Computation*> found(8);
  {
    const std::jthread meanwhile = LoadLibTorchMeanwhile();
    std::vector<std::jthread> threads;
    for (const Computation*& each : found) {
      threads.emplace_back([&each] { each = LoadLibTorch().value_or(nullptr); });
    }
  }
  for (const Computation* each : found) {
    EXPECT_NE(each, nullptr);
    EXPECT_EQ(each, found.front());
  }
  EXPECT_FALSE(LoadLibTorchMeanwhile().joinable());  // nothing is left to be done
}

TEST(LibTorchModuleTest, AFileThatIsNotThereIsNamed) {
  const std::string file = "/nowhere/linchpin-libtorch.so";
  ExpectRefused(LoadModule(file), file, "cannot be loaded");
}

TEST(LibTorchModuleTest, AFileThatIsNoLibraryIsNamed) {
  TemporaryDirectory directory;
  directory.Write("linchpin-libtorch.so", "no library");
  const std::string file = directory / "linchpin-libtorch.so";
  ExpectRefused(LoadModule(file), file, "cannot be loaded");
}

TEST(LibTorchModuleTest, ALibraryOfAnotherBuildIsRefused) {
  ExpectRefused(LoadModule(OTHER_BUILD), OTHER_BUILD, "another build");
}

TEST(LibTorchModuleTest, ALibraryThatIsNoModuleIsRefused) {
  ExpectRefused(LoadModule(NO_MODULE), NO_MODULE, "another build");
}

}  // namespace
}  // namespace linchpin
