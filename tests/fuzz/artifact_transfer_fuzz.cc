// The input is what a caller of CompressArtifact sends: messages, each behind its length.
// A digest "=" stands for the right one of what was sent of the file.
//
// Whatever comes in whatever order: nothing is sent back but after a finish, then whole
// files with their digests, and no memory stays reserved.
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "artifact/digest.h"
#include "base/status.h"
#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"
#include "google/protobuf/util/delimited_message_util.h"
#include "service/artifact_transfer.h"
#include "spdlog/spdlog.h"
#include "tests/fuzz/invariant.h"
#include "tests/support/fake_backend.h"

namespace {

namespace v1 = linchpin::v1;

class ScriptedChannel : public linchpin::ArtifactChannel {
 public:
  explicit ScriptedChannel(std::deque<v1::CompressArtifactRequest> requests)
      : requests_(std::move(requests)) {}

  absl::StatusOr<std::optional<v1::CompressArtifactRequest>> Read() override {
    if (requests_.empty()) return std::nullopt;
    auto next = std::move(requests_.front());
    requests_.pop_front();
    finished_ = finished_ || next.has_finish();
    return next;
  }
  absl::Status Write(v1::CompressArtifactResponse& message) override {
    INVARIANT(finished_);
    responses.push_back(std::move(message));
    return absl::OkStatus();
  }

  std::vector<v1::CompressArtifactResponse> responses;

 private:
  std::deque<v1::CompressArtifactRequest> requests_;
  bool finished_ = false;
};

std::deque<v1::CompressArtifactRequest> Requests(const uint8_t* data, size_t size) {
  std::deque<v1::CompressArtifactRequest> requests;
  google::protobuf::io::ArrayInputStream stream(data, static_cast<int>(size));
  std::string content;
  v1::CompressArtifactRequest request;
  bool ended = false;
  while (google::protobuf::util::ParseDelimitedFromZeroCopyStream(&request, &stream, &ended)) {
    if (request.has_file()) content.clear();
    if (request.has_chunk()) content += request.chunk().data();
    if (request.end().sha256() == "=") {
      request.mutable_end()->set_sha256(linchpin::Sha256Hex(content));
    }
    requests.push_back(std::exchange(request, {}));
  }
  return requests;
}

// A header, chunks one after the other, an end; for each file.
void CheckFiles(const std::vector<v1::CompressArtifactResponse>& responses) {
  std::optional<uint64_t> size;  // of the file that is open
  std::string content;
  for (const auto& response : responses) {
    if (response.has_file()) {
      INVARIANT(!size);
      size = response.file().size();
      content.clear();
    } else if (response.has_chunk()) {
      INVARIANT(size && response.chunk().offset() == content.size());
      content += response.chunk().data();
    } else {
      INVARIANT(size && response.has_end() && content.size() == *size);
      INVARIANT(response.end().sha256() == linchpin::Sha256Hex(content));
      size.reset();
    }
  }
  INVARIANT(!size);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static auto& fake = *[] {
    spdlog::set_level(spdlog::level::off);
    return new linchpin::FakeBackend;
  }();
  ScriptedChannel channel(Requests(data, size));
  {
    const auto run = *linchpin::JobRun::Admit(fake.backend, linchpin::JobKind::kArtifact);
    const auto last = linchpin::TransferArtifact(channel, *run);
    if (last.ok()) {
      CheckFiles(channel.responses);
    } else {
      INVARIANT(linchpin::ReasonOf(last.status()) != linchpin::Reason::kInternal);
    }
    (void)run->End(last.status());
  }
  INVARIANT(fake.jobs.admission().reserved_bytes() == 0 && fake.jobs.jobs() == 0);
  return 0;
}
