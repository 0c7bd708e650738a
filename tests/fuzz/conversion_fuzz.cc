// The input is a request of an evaluation, and the options of a compression, as they come
// over the wire.  What is refused names a field; the key of a job does not depend on the
// order in which a message was written.
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/status.h"
#include "google/protobuf/stubs/logging.h"
#include "linchpin/v1/compression.pb.h"
#include "service/conversion.h"
#include "service/request_key.h"
#include "tests/fuzz/invariant.h"

namespace {

namespace v1 = linchpin::v1;

template <class Value>
void CheckRefusal(const absl::StatusOr<Value>& converted) {
  if (converted.ok()) return;
  INVARIANT(linchpin::ReasonOf(converted.status()) == linchpin::Reason::kOptionInvalid);
  INVARIANT(!converted.status().message().empty());
}

template <class Message>
void CheckKey(const Message& message) {
  const std::string canonical = linchpin::CanonicalBytes(message);
  Message again;
  INVARIANT(again.ParseFromString(message.SerializeAsString()));
  INVARIANT(linchpin::CanonicalBytes(again) == canonical);
}

void Compression(const v1::ArtifactOptions& options) {
  const auto converted = linchpin::FromProto(options.detection(), options.quantization());
  CheckRefusal(converted);
  CheckKey(options.detection());
  CheckKey(options.quantization());
  if (!converted.ok()) return;
  INVARIANT(converted->detect.prompts >= 1 && converted->detect.proof_windows.size >= 2);
  (void)linchpin::CheckOptions(converted->quantize);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  [[maybe_unused]] static const auto silent = google::protobuf::SetLogHandler(nullptr);
  v1::ArtifactOptions options;
  if (options.ParseFromArray(data, static_cast<int>(size))) Compression(options);
  v1::EvaluateCompressionRequest request;
  if (request.ParseFromArray(data, static_cast<int>(size))) {
    CheckRefusal(linchpin::FromProto(request));
    CheckKey(request);
  }
  return 0;
}
