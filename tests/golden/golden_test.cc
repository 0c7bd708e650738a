// The bytes of artifacts, by their digests: the same on every machine, for any number of
// threads and any instruction set, in what ships.
//
// A change here is a change of what users get.  If it is meant: look at why the bytes changed,
// then copy the file that a failed test names over tests/golden/digests.json.
#include <filesystem>
#include <fstream>
#include <set>
#include <string>

#include "gtest/gtest.h"
#include "tests/golden/golden_case.h"
#include "tests/support/every_target.h"
#include "tests/support/shared.h"

namespace linchpin {
namespace {

// {case: {what: digest}} as it is committed.
Json Golden() { return Json::parse(ReadFileText(LINCHPIN_GOLDEN_DIGESTS)); }

Json Found(const RunContext& context) {
  Json found = Json::object();
  for (const GoldenCase& golden : GoldenCases()) found[golden.name] = DigestsOf(golden, context);
  return found;
}

// A line for each case.
void Write(const Json& digests, const std::filesystem::path& path) {
  std::ofstream file(path);
  std::string before = "{\n";
  for (const auto& each : digests.items()) {
    file << before << Json(each.key()).dump() << ": " << each.value().dump();
    before = ",\n";
  }
  file << "\n}\n";
}

void ExpectGolden(const Json& found) {
  const Json golden = Golden();
  for (const auto& each : golden.items()) {
    EXPECT_EQ(found.value(each.key(), Json()), each.value()) << each.key();
  }
  if (found == golden) return;
  const auto path = std::filesystem::path(::testing::TempDir()) / "digests.json";
  Write(found, path);
  ADD_FAILURE() << "what was found instead, cases without a digest too, lies in " << path;
}

TEST(GoldenTest, OneThread) { ExpectGolden(Found({.threads = 1})); }

TEST(GoldenTest, ThreeThreadsAndSmallSlabs) {
  ExpectGolden(Found({.threads = 3, .slab_bytes = 1 << 14}));
}

TEST(GoldenTest, AnyInstructionSet) {
  OnEveryTarget([](int64_t) { ExpectGolden(Found({.threads = 2})); });
}

// Two cases of the same bytes may be one that does not do what its name says.
TEST(GoldenTest, NoTwoCasesHaveOneManifest) {
  std::set<std::string> manifests;
  const Json golden = Golden();
  for (const auto& each : golden.items()) {
    EXPECT_TRUE(manifests.insert(each.value()["manifest"]).second) << each.key();
  }
}

}  // namespace
}  // namespace linchpin
