// A compression in parts: workers that know nothing of each other compress a
// shard each, and a last call puts the artifact together.
//
// The only state is in the user's store.  A finished shard stands beside the
// destination, in a directory of its own, with a manifest of its part as its
// evidence; it appears whole, and a worker that finds it has nothing to do.  The
// artifact appears whole as well, with the bytes that one process would write.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "base/run_context.h"
#include "format/json.h"
#include "pipeline/compress.h"
#include "quantize/options.h"
#include "storage/storage.h"

namespace linchpin {

// What all calls of one job agree on.
struct ShardJob {
  std::string source;
  std::string destination;
  std::string key;  // 64 hexadecimal digits; names the shards' directories
  QuantizeOptions quantize;
  std::string detection_json;  // as DetectionToJson makes it, compact or not
};

struct ShardResult {
  bool skipped = false;  // it was there already
  uint64_t bytes_in = 0;
  uint64_t bytes_out = 0;
  std::string sha256;  // of the file
};

// Where shard `index` of the job stands.
std::string ShardDirectory(const ShardJob& job, int index);

// Compresses shard `index` of the source, from 0, unless it stands there
// already.  OPTION_INVALID for an index that there is not, and for a detection
// that is none; FEATURE_UNSUPPORTED for options that need the whole model.
absl::StatusOr<ShardResult> CompressShard(const Storage& storage, const ShardJob& job, int index,
                                          const RunContext& context);

// Checks every shard's digest, and that the source is what it was, and writes
// the artifact.  SHARD_MISSING with the indices of shards that are not there;
// DIGEST_MISMATCH, SOURCE_CHANGED.  The shards' directories are left.
absl::StatusOr<CompressResult> FinalizeCompression(const Storage& storage, const ShardJob& job,
                                                   bool overwrite, const RunContext& context);

}  // namespace linchpin
