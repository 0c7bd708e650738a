// A compression in parts, as its caller sees it: the job in a file, its shards
// shared out to whatever serves the endpoint.
#pragma once

#include <string>

#include "client/calls.h"
#include "grpcpp/support/status.h"
#include "linchpin/v1/compression.pb.h"

namespace linchpin {

// The job as JSON (protobuf's), which a person can read and a ConfigMap hold.
grpc::Status SaveJob(const std::string& file, const v1::CompressionJob& job);
// OPTION_INVALID, naming the file, for anything else.
grpc::Status LoadJob(const std::string& file, v1::CompressionJob& job);

// Prepares a planned job for its workers and saves it.
grpc::Status PrepareAndSaveJob(const CallSettings& settings, const std::string& file,
                               v1::CompressionJob job);

// Calls CompressShard for every shard of the job, `workers` at once.  What may
// pass (busy, unreachable, going down) is tried again, a minute long at least;
// the first other error ends it.  `finished` and `skipped` count shards.
struct ShardCounts {
  int finished = 0;
  int skipped = 0;
};
grpc::Status CompressShards(const CallSettings& settings, const v1::CompressionJob& job,
                            int workers, ShardCounts& counts);

}  // namespace linchpin
