// A compression in parts: a first call learns what every worker must know,
// workers that know nothing of each other compress a shard each, and a last call
// puts the artifact together.
//
// The only state is in the user's store.  A finished shard stands beside the
// destination, in a directory of its own, with a manifest of its part as its
// evidence; it appears whole, and a worker that finds it has nothing to do.  The
// artifact appears whole as well, with the bytes that one process would write.
// Then what the job left beside it is removed.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "base/run_context.h"
#include "checkpoint/checkpoint.h"
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
  bool detect = true;             // off: whether there are super weights is not known
  bool source_digest = true;      // as in CompressOptions
  std::string detection_json;     // as DetectionToJson makes it, compact or not; empty where off
  std::string importance_sha256;  // as PreparedJob has it
  // The source as it was opened to learn that the key is still its; or null.
  std::shared_ptr<const Checkpoint> opened = nullptr;
};

// What a job's first call finds.
struct PreparedJob {
  std::optional<Detection> detection;  // none where it is off
  // Of what tells how much each input channel matters, which was written beside
  // the destination; empty unless scales go by it.
  std::string importance_sha256;
};

struct ShardResult {
  bool skipped = false;  // it was there already
  uint64_t bytes_in = 0;
  uint64_t bytes_out = 0;
  std::string sha256;  // of the file
};

// Where the job keeps something, and shard `index`.
std::string JobDirectory(const ShardJob& job, std::string_view what);
std::string ShardDirectory(const ShardJob& job, int index);

// Looks for super weights and measures channels, once for all workers, where the
// options say so; of the job its source, destination and key count.  The errors of
// Compress; FEATURE_UNSUPPORTED for what is not written in parts.
absl::StatusOr<PreparedJob> PrepareCompression(const Storage& storage, const ShardJob& job,
                                               const CompressOptions& options,
                                               const RunContext& context);

// Compresses shard `index` of the source, from 0, unless it stands there already, made
// from the bytes that the source still has.  OPTION_INVALID for an index that there is not, and for
// a detection that is none; FEATURE_UNSUPPORTED for what is not written in parts; SOURCE_NOT_FOUND
// and DIGEST_MISMATCH where the preparation is not there any more.
absl::StatusOr<ShardResult> CompressShard(const Storage& storage, const ShardJob& job, int index,
                                          const RunContext& context);

// Puts the shards' files into the artifact, as they are where the store can, and
// writes what goes with them.  Digests are those that were taken when the files
// were written; samples of the bytes are held against the shards' records.  Every
// shard was made from the bytes that the source has now: its file is the version that
// was read then, or has the digest that was taken then.  What the job kept beside the
// destination is removed then.  Called again it finds the artifact and says the same.
// SOURCE_NOT_FOUND with the indices of shards that are not there; DIGEST_MISMATCH;
// SOURCE_CHANGED.
absl::StatusOr<CompressResult> FinalizeCompression(const Storage& storage, const ShardJob& job,
                                                   bool overwrite, const RunContext& context);

}  // namespace linchpin
