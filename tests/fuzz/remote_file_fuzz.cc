// The input is what a server sends for a file: status line, headers (Content-Range, ETag,
// Retry-After, Location) and body.  A file that is opened has a sound size, and what is read of
// it is all there.
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "storage/http/remote_file.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/invariant.h"
#include "tests/fuzz/loopback.h"

namespace {

constexpr uint64_t kLargestRead = uint64_t{1} << 20;
constexpr uint64_t kLargestFile = uint64_t{1} << 44;

linchpin::HttpClient OneAttempt() {
  linchpin::HttpOptions options;
  options.retry.attempts = 1;
  options.connect_timeout = std::chrono::seconds(2);
  options.slow_for = std::chrono::seconds(2);
  return linchpin::HttpClient(options);
}

void ReadAll(const linchpin::ReadableFile& file) {
  INVARIANT(file.size() <= kLargestFile);
  if (file.size() > kLargestRead) return;
  std::vector<std::byte> bytes(file.size());
  const absl::Status read = file.ReadAt(0, absl::MakeSpan(bytes));
  if (!read.ok()) INVARIANT(linchpin::ReasonOf(read) != linchpin::Reason::kInternal);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static auto& server = *new AnsweringServer;
  static const auto& client = *new linchpin::HttpClient(OneAttempt());
  server.set_answer(std::string(TextOf(data, size)));
  linchpin::HttpRequest request{.what = "fuzz", .store = "https"};
  request.url = {.scheme = "http",
                 .authority = "127.0.0.1:" + std::to_string(server.port()),
                 .path = "/model"};
  request.any_address = true;
  const auto file =
      linchpin::RemoteFile::Open(client, request, std::make_shared<linchpin::BlockCache>(2));
  if (file.ok()) {
    ReadAll(**file);
  } else {
    INVARIANT(linchpin::ReasonOf(file.status()) != linchpin::Reason::kInternal);
  }
  return 0;
}
