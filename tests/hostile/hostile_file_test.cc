// Files whose sizes and kinds are made to harm us, on a real file system.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "base/status.h"
#include "checkpoint/checkpoint.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "storage/local_storage.h"
#include "tests/support/safetensors_file.h"
#include "tests/support/temporary_directory.h"

namespace linchpin {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class HostileFile : public ::testing::Test {
 protected:
  void SetUp() override { directory_.Write("m/config.json", R"({"model_type": "llama"})"); }

  absl::StatusOr<Checkpoint> Open() { return Checkpoint::Open(*storage_, directory_ / "m"); }

  // Writes the start of a file and extends it, sparse, to `size` bytes.
  void WriteSparse(const std::string& name, const std::string& start, uint64_t size) {
    directory_.Write(name, start);
    fs::resize_file(directory_ / name, size);
  }

  // Peak resident memory of this process in bytes.
  static uint64_t PeakMemory() {
    std::ifstream status("/proc/self/status");
    for (std::string line; std::getline(status, line);) {
      if (line.starts_with("VmHWM:")) return std::stoull(line.substr(6)) * 1024;
    }
    return 0;
  }

  TemporaryDirectory directory_;
  std::unique_ptr<LocalStorage> storage_ =
      *LocalStorage::Create({.write_roots = {directory_.path().string()}});
};

TEST_F(HostileFile, ATensorOfMoreThan2To31ElementsIsReadAtItsEnd) {
  constexpr int64_t kRows = 3, kColumns = int64_t{1} << 30;
  const std::string json = R"({"big":{"dtype":"BF16","shape":[3,1073741824],"data_offsets":[0,)" +
                           std::to_string(kRows * kColumns * 2) + "]}}";
  const uint64_t data = 8 + json.size();
  WriteSparse("m/model.safetensors", RawSafetensors(json, ""), data + kRows * kColumns * 2);
  std::fstream file(directory_ / "m/model.safetensors", std::ios::in | std::ios::out);
  file.seekp(-2, std::ios::end);
  file.write("\x80\x3f", 2);  // 1.0
  file.close();
  const auto checkpoint = Open();
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const StoredTensor& big = **checkpoint->Find("big");
  std::array<std::byte, 2> last;
  ASSERT_TRUE(checkpoint->ReadBytes(big, kRows * kColumns * 2 - 2, absl::MakeSpan(last)).ok());
  EXPECT_EQ(last[1], std::byte{0x3f});
  EXPECT_EQ(checkpoint->total_bytes(), static_cast<uint64_t>(kRows * kColumns * 2));
}

TEST_F(HostileFile, AHeaderOf100MegabytesOfNoiseCostsNoMultipleOfItsSize) {
  constexpr uint64_t kHeader = 100'000'000;
  std::string json = R"({"w":{"dtype":"U8","data_offsets":[0,0],"shape":[)";
  while (json.size() < kHeader - 1) json += "0,";
  json.resize(kHeader, '0');
  directory_.Write("m/model.safetensors", RawSafetensors(json, ""));
  json = std::string();
  const uint64_t before = PeakMemory();
  const absl::Status status = Open().status();
  EXPECT_EQ(ReasonOf(status), Reason::kHeaderInvalid);
  EXPECT_THAT(std::string(status.message()), HasSubstr("tensor w"));
  EXPECT_LT(PeakMemory() - before, 3 * kHeader);
}

TEST_F(HostileFile, AnEnormousEmptyFileIsRefusedAtOnce) {
  WriteSparse("m/model.safetensors", "", uint64_t{1} << 40);
  EXPECT_EQ(ReasonOf(Open().status()), Reason::kHeaderInvalid);
}

TEST_F(HostileFile, AnEnormousConfigOrIndexIsRefusedUnread) {
  WriteSparse("m/model.safetensors.index.json", "{}", uint64_t{1} << 40);
  absl::Status status = Open().status();
  EXPECT_EQ(ReasonOf(status), Reason::kHeaderInvalid);
  EXPECT_THAT(std::string(status.message()), HasSubstr("model.safetensors.index.json"));
  WriteSparse("m/config.json", "{}", uint64_t{1} << 40);
  status = Open().status();
  EXPECT_EQ(ReasonOf(status), Reason::kHeaderInvalid);
  EXPECT_THAT(std::string(status.message()), HasSubstr("config.json"));
}

TEST_F(HostileFile, FilesThatAreNoneAreNotOpened) {
  ASSERT_EQ(mkfifo((directory_ / "m/model.safetensors").c_str(), 0600), 0);
  EXPECT_EQ(ReasonOf(Open().status()), Reason::kNotACheckpoint) << "a FIFO is no file";
  fs::remove(directory_ / "m/model.safetensors");
  fs::create_directory(directory_ / "m/model.safetensors");
  EXPECT_EQ(ReasonOf(Open().status()), Reason::kNotACheckpoint);
}

TEST_F(HostileFile, WeightsThatAreALinkOutOfTheRootAreNotRead) {
  TemporaryDirectory elsewhere;
  elsewhere.Write("model.safetensors", SafetensorsFile({}));
  fs::create_symlink(elsewhere / "model.safetensors", directory_ / "m/model.safetensors");
  const absl::Status status = Open().status();
  EXPECT_EQ(ReasonOf(status), Reason::kPathNotAllowed);
  EXPECT_THAT(std::string(status.message()), HasSubstr("model.safetensors"));
}

TEST_F(HostileFile, AFileNameThatIsNotUtf8IsRefusedInUtf8) {
  directory_.Write("m/model.safetensors", SafetensorsFile({}));
  directory_.Write("m/note\xff.txt", "x");
  const absl::Status status = Open().status();
  EXPECT_EQ(ReasonOf(status), Reason::kNotACheckpoint);
  EXPECT_THAT(std::string(status.message()), HasSubstr("note?.txt"));
}

TEST_F(HostileFile, AShardThatShrinksWhileReadIsNoticed) {
  const std::string content =
      SafetensorsFile({MakeTensor("w", DType::kF32, {1024}, std::vector<float>(1024, 1))});
  directory_.Write("m/model.safetensors", content);
  const auto checkpoint = Open();
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  fs::resize_file(directory_ / "m/model.safetensors", content.size() - 1);
  const absl::Status status = checkpoint->ReadRows(**checkpoint->Find("w"), 0, 1).status();
  EXPECT_EQ(ReasonOf(status), Reason::kSourceChanged);
  EXPECT_THAT(std::string(status.message()), HasSubstr("tensor w"));
}

}  // namespace
}  // namespace linchpin
