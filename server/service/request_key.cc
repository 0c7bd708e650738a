#include "service/request_key.h"

#include "fmt/format.h"
#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"
#include "pipeline/job_key.h"

namespace linchpin {

std::string CanonicalBytes(const google::protobuf::Message& message) {
  std::string bytes;
  {
    google::protobuf::io::StringOutputStream stream(&bytes);
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);
    message.SerializeToCodedStream(&coded);
  }
  return fmt::format("{} {}\n{}\n", message.GetDescriptor()->full_name(), bytes.size(), bytes);
}

std::string KeyOfBytes(std::string_view source, std::string_view options) {
  return JobKey("call", options, source);
}

}  // namespace linchpin
