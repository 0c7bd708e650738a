#include "client/shards.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>
#include <thread>
#include <vector>

#include "client/errors.h"
#include "client/local_files.h"
#include "client/requests.h"
#include "fmt/format.h"
#include "google/protobuf/util/json_util.h"

namespace linchpin {
namespace {

using std::chrono::milliseconds;

constexpr uint64_t kMaxJobBytes = 64 << 20;
constexpr int kMaxTries = 60;
constexpr milliseconds kFirstPause{50}, kLongestPause{2000};

// One shard, until it is done or fails for good.
grpc::Status CompressOne(const CallSettings& settings, const v1::CompressShardRequest& request,
                         v1::ShardResult& result) {
  milliseconds pause = kFirstPause;
  for (int tries = 1;; ++tries) {
    grpc::Status status = CompressShard(settings, request, result);
    const bool passes = ExitCodeOf(status) == kExitTryAgain;
    if (!passes || tries == kMaxTries || settings.interrupts.signal() != 0) return status;
    std::this_thread::sleep_for(pause);
    pause = std::min(2 * pause, kLongestPause);
  }
}

}  // namespace

grpc::Status SaveJob(const std::string& file, const v1::CompressionJob& job) {
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = true;
  options.preserve_proto_field_names = true;
  std::string text;
  if (!google::protobuf::util::MessageToJsonString(job, &text, options).ok()) {
    return LocalError(grpc::StatusCode::INTERNAL, "INTERNAL", file, "the job is not UTF-8", "");
  }
  return WriteLocalFile(file, text);
}

grpc::Status LoadJob(const std::string& file, v1::CompressionJob& job) {
  std::string text;
  const grpc::Status status = ReadLocalFile(file, kMaxJobBytes, text);
  if (!status.ok()) return status;
  if (google::protobuf::util::JsonStringToMessage(text, &job).ok() && !job.job_key().empty() &&
      job.shards() > 0) {
    return grpc::Status::OK;
  }
  return LocalError(grpc::StatusCode::INVALID_ARGUMENT, "OPTION_INVALID", file,
                    "it is no job of plan --save", "write it again");
}

grpc::Status PrepareAndSaveJob(const CallSettings& settings, const std::string& file,
                               v1::CompressionJob job) {
  v1::PrepareCompressionRequest request;
  v1::PreparedCompression prepared;
  *request.mutable_job() = job;
  const grpc::Status status = Prepare(settings, request, prepared);
  if (!status.ok()) return status;
  job.set_detection_json(prepared.detection_json());
  job.set_importance_sha256(prepared.importance_sha256());
  return SaveJob(file, job);
}

grpc::Status CompressShards(const CallSettings& settings, const v1::CompressionJob& job,
                            int workers, ShardCounts& counts) {
  const CallSettings silent{settings.stub, settings.interrupts, /*quiet=*/true};
  std::atomic<int> next = 0;
  std::mutex mutex;
  grpc::Status first_error = grpc::Status::OK;
  const auto work = [&] {
    for (int index = next++; index < job.shards(); index = next++) {
      v1::CompressShardRequest request;
      *request.mutable_job() = job;
      request.set_index(index);
      v1::ShardResult result;
      const grpc::Status status = CompressOne(silent, request, result);
      const std::lock_guard lock(mutex);
      if (!status.ok()) {
        if (first_error.ok()) first_error = status;
        next = job.shards();
        return;
      }
      ++(result.skipped() ? counts.skipped : counts.finished);
      if (!settings.quiet) {
        fmt::print(stderr, "{} of {} shards: shard {} {}\n", counts.finished + counts.skipped,
                   job.shards(), index, result.skipped() ? "was finished" : "is done");
      }
    }
  };
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < std::min(workers, job.shards()); ++i) threads.emplace_back(work);
  }
  return first_error;
}

}  // namespace linchpin
