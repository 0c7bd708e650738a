#include "client/shards.h"

#include <gtest/gtest.h>

#include "client/errors.h"
#include "tests/support/temporary_directory.h"

namespace linchpin {
namespace {

TEST(SaveJob, IsReadBackAsItWas) {
  TemporaryDirectory directory;
  v1::CompressionJob job;
  job.set_source("/model");
  job.set_destination("s3://bucket/out");
  job.mutable_quantization()->set_group_size(32);
  job.set_detection_json(R"({"super_weights": [{"value": 0.1}]})");
  job.set_job_key("abc");
  job.set_shards(3);
  const std::string file = directory / "job.json";
  ASSERT_TRUE(SaveJob(file, job).ok());
  v1::CompressionJob read;
  ASSERT_TRUE(LoadJob(file, read).ok());
  EXPECT_EQ(read.SerializeAsString(), job.SerializeAsString());
}

TEST(LoadJob, RefusesWhatIsNoneNamingTheFile) {
  TemporaryDirectory directory;
  for (const char* text : {"", "{", "[]", "{}", R"({"job_key": "a"})", R"({"shards": 2})",
                           R"({"job_key": "a", "shards": 2, "other": 1})"}) {
    v1::CompressionJob job;
    const grpc::Status status = LoadJob(directory.Write("job.json", text), job);
    EXPECT_EQ(ReasonOf(status), "OPTION_INVALID") << text;
    EXPECT_NE(status.error_message().find("job.json"), std::string::npos);
  }
  v1::CompressionJob job;
  EXPECT_EQ(ReasonOf(LoadJob(directory / "absent", job)), "SOURCE_NOT_FOUND");
}

}  // namespace
}  // namespace linchpin
