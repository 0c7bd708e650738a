// The input is a job file as `plan --save` writes it (JSON).  A job that is loaded can be
// saved, and is then the same.
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "client/shards.h"
#include "google/protobuf/util/field_comparator.h"
#include "google/protobuf/util/message_differencer.h"
#include "tests/fuzz/invariant.h"
#include "tests/support/temporary_directory.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const int file = memfd_create("job", MFD_CLOEXEC);
  static const std::string& path = *new std::string("/proc/self/fd/" + std::to_string(file));
  static const linchpin::TemporaryDirectory& directory = *new linchpin::TemporaryDirectory;
  INVARIANT(ftruncate(file, 0) == 0);
  INVARIANT(pwrite(file, data, size, 0) == static_cast<ssize_t>(size));
  linchpin::v1::CompressionJob job, again;
  if (!linchpin::LoadJob(path, job).ok()) return 0;
  INVARIANT(!job.job_key().empty() && job.shards() > 0);
  const std::string saved = directory / "job.json";
  INVARIANT(linchpin::SaveJob(saved, job).ok());
  INVARIANT(linchpin::LoadJob(saved, again).ok());
  google::protobuf::util::DefaultFieldComparator numbers;
  numbers.set_treat_nan_as_equal(true);  // what a job may ask for is the server's to say
  google::protobuf::util::MessageDifferencer difference;
  difference.set_field_comparator(&numbers);
  INVARIANT(difference.Compare(job, again));
  return 0;
}
