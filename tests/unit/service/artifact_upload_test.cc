#include "service/artifact_upload.h"

#include <string>

#include "artifact/digest.h"
#include "base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/fake_backend.h"

namespace linchpin {
namespace {

using Message = v1::CompressArtifactRequest;

Message Options() {
  Message message;
  message.mutable_options();
  return message;
}

Message Header(const std::string& name, uint64_t size) {
  Message message;
  message.mutable_file()->set_name(name);
  message.mutable_file()->set_size(size);
  return message;
}

Message Chunk(uint64_t offset, const std::string& data) {
  Message message;
  message.mutable_chunk()->set_offset(offset);
  message.mutable_chunk()->set_data(data);
  return message;
}

Message End(const std::string& content) {
  Message message;
  message.mutable_end()->set_sha256(Sha256Hex(content));
  return message;
}

Message Finish() {
  Message message;
  message.mutable_finish();
  return message;
}

class ArtifactUploadTest : public testing::Test {
 protected:
  // Takes all but the last, which must be refused for `reason`.
  void ExpectRefusal(const std::vector<Message>& messages, Reason reason) {
    const auto place = *storage_.CreateDirectory("model", false);
    ArtifactUpload upload(*run_, *place, Room::kMemory);
    for (size_t i = 0; i + 1 < messages.size(); ++i) {
      const absl::Status status = upload.Take(messages[i]);
      ASSERT_TRUE(status.ok()) << "message " << i << ": " << status;
    }
    EXPECT_EQ(ReasonOf(upload.Take(messages.back())), reason) << messages.back().ShortDebugString();
    EXPECT_FALSE(upload.finished());
  }

  FakeBackend fake_;
  MemoryStorage storage_;
  std::shared_ptr<JobRun> run_ = *JobRun::Admit(fake_.backend, JobKind::kArtifact);
};

TEST_F(ArtifactUploadTest, PutsFilesTogether) {
  const auto place = *storage_.CreateDirectory("model", false);
  ArtifactUpload upload(*run_, *place, Room::kMemory);
  Message options;
  options.mutable_options()->mutable_quantization()->set_group_size(64);
  for (const Message& message :
       {options, Header("config.json", 6), Chunk(0, "abc"), Chunk(3, "def"), End("abcdef"),
        Header("empty/file", 0), End(""), Finish()}) {
    ASSERT_TRUE(upload.Take(message).ok()) << message.ShortDebugString();
  }
  EXPECT_TRUE(upload.finished());
  EXPECT_EQ(upload.options().quantization().group_size(), 64);
  EXPECT_EQ(upload.bytes(), 6U);
  EXPECT_EQ(*ReadText(storage_, "model/config.json", 100), "abcdef");
  EXPECT_EQ(storage_.Get("model/empty/file")->size(), 0U);
  const std::vector<FileRecord> files{{"config.json", 6, Sha256Hex("abcdef")},
                                      {"empty/file", 0, Sha256Hex("")}};
  EXPECT_EQ(upload.files(), files);
}

TEST_F(ArtifactUploadTest, ReservesWhatIsAnnounced) {
  const auto place = *storage_.CreateDirectory("model", false);
  ArtifactUpload upload(*run_, *place, Room::kMemory);
  ASSERT_TRUE(upload.Take(Options()).ok());
  ASSERT_TRUE(upload.Take(Header("a", 70'000)).ok());
  EXPECT_EQ(fake_.jobs.admission().reserved_bytes(), 70'000U);
}

TEST_F(ArtifactUploadTest, RefusesMessagesOutOfOrder) {
  ExpectRefusal({Header("a", 1)}, Reason::kStreamInvalid);
  ExpectRefusal({Finish()}, Reason::kStreamInvalid);
  ExpectRefusal({Message()}, Reason::kStreamInvalid);
  ExpectRefusal({Options(), Options()}, Reason::kStreamInvalid);
  ExpectRefusal({Options(), Message()}, Reason::kStreamInvalid);
  ExpectRefusal({Options(), Chunk(0, "a")}, Reason::kStreamInvalid);
  ExpectRefusal({Options(), End("")}, Reason::kStreamInvalid);
  ExpectRefusal({Options(), Header("a", 1), Header("b", 1)}, Reason::kStreamInvalid);
  ExpectRefusal({Options(), Header("a", 1), Finish()}, Reason::kStreamInvalid);
}

TEST_F(ArtifactUploadTest, RefusesChunksThatDoNotFit) {
  ExpectRefusal({Options(), Header("a", 4), Chunk(1, "x")}, Reason::kStreamInvalid);
  ExpectRefusal({Options(), Header("a", 4), Chunk(0, "xx"), Chunk(0, "x")}, Reason::kStreamInvalid);
  ExpectRefusal({Options(), Header("a", 4), Chunk(0, "xxxxx")}, Reason::kStreamInvalid);
  ExpectRefusal({Options(), Header("a", 4), Chunk(0, "xx"), End("xx")}, Reason::kStreamInvalid);
  ExpectRefusal({Options(), Header("a", 4), Chunk(~uint64_t{0}, "xx")}, Reason::kStreamInvalid);
}

TEST_F(ArtifactUploadTest, RefusesChunksThatAreTooLarge) {
  ExpectRefusal({Options(), Header("a", 100'000), Chunk(0, std::string(kChunkBytes + 1, 'x'))},
                Reason::kStreamInvalid);
}

TEST_F(ArtifactUploadTest, RefusesAWrongDigest) {
  ExpectRefusal({Options(), Header("a", 2), Chunk(0, "xx"), End("xy")}, Reason::kDigestMismatch);
  EXPECT_EQ(storage_.Get("model/a"), nullptr);
}

TEST_F(ArtifactUploadTest, RefusesNamesThatLeadAway) {
  for (const std::string& name :
       {std::string(), std::string("/etc/passwd"), std::string(".."), std::string("../a"),
        std::string("a/../b"), std::string("a//b"), std::string("./a"), std::string("a/"),
        std::string("a\\b"), std::string("a\nb"), std::string("a\0b", 3), std::string(2000, 'n')}) {
    ExpectRefusal({Options(), Header(name, 1)}, Reason::kPathNotAllowed);
  }
}

TEST_F(ArtifactUploadTest, TakesOrdinaryNames) {
  const auto place = *storage_.CreateDirectory("model", false);
  ArtifactUpload upload(*run_, *place, Room::kMemory);
  ASSERT_TRUE(upload.Take(Options()).ok());
  for (const char* name :
       {"model-00001-of-00002.safetensors", "a/b/c.json", "..data", "%2e%2e", "\xc3\xa4.txt"}) {
    EXPECT_TRUE(upload.Take(Header(name, 0)).ok()) << name;
    EXPECT_TRUE(upload.Take(End("")).ok());
  }
}

TEST_F(ArtifactUploadTest, RefusesAFileSentTwice) {
  ExpectRefusal({Options(), Header("a", 0), End(""), Header("a", 0)}, Reason::kStreamInvalid);
}

TEST_F(ArtifactUploadTest, RefusesMoreThanTheServerTakes) {
  ExpectRefusal({Options(), Header("a", 100'001)}, Reason::kExceedsServerLimit);
  ExpectRefusal({Options(), Header("a", ~uint64_t{0})}, Reason::kExceedsServerLimit);
  const auto place = *storage_.CreateDirectory("model", false);
  ArtifactUpload upload(*run_, *place, Room::kMemory);
  ASSERT_TRUE(upload.Take(Options()).ok());
  ASSERT_TRUE(upload.Take(Header("zeros", 60'000)).ok());
  ASSERT_TRUE(upload.Take(Chunk(0, std::string(60'000, '0'))).ok());
  ASSERT_TRUE(upload.Take(End(std::string(60'000, '0'))).ok());
  const absl::Status status = upload.Take(Header("more", 50'000));
  EXPECT_EQ(ReasonOf(status), Reason::kExceedsServerLimit);
  EXPECT_EQ(DetailsOf(status)["limit_bytes"], "100000");
}

TEST_F(ArtifactUploadTest, RefusesTooManyFiles) {
  const auto place = *storage_.CreateDirectory("model", false);
  ArtifactUpload upload(*run_, *place, Room::kMemory);
  ASSERT_TRUE(upload.Take(Options()).ok());
  absl::Status status;
  size_t taken = 0;
  for (; status.ok() && taken <= ArtifactUpload::kMaxFiles; ++taken) {
    status = upload.Take(Header("f" + std::to_string(taken), 0));
    if (status.ok()) status = upload.Take(End(""));
  }
  EXPECT_EQ(ReasonOf(status), Reason::kStreamInvalid);
  EXPECT_EQ(taken, ArtifactUpload::kMaxFiles + 1);
}

}  // namespace
}  // namespace linchpin
