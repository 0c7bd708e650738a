// What has become of the plan's super weights in an output, and the adapter that
// puts back what the output misses of them.
#pragma once

#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "artifact/read_back.h"
#include "artifact/shard_files.h"
#include "artifact/side_files.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/gguf_template.h"
#include "quantize/plan.h"

namespace linchpin {

// Reads them back from the bytes that were written, in the plan's order.
absl::StatusOr<std::vector<KeptWeight>> ReadBackAll(const Checkpoint& checkpoint, const Plan& plan,
                                                    const ShardFiles& shards);

// For Preserve::kLora: what the quantized weights miss goes into an adapter; what
// was `kept` then is what both together give.  `pattern` is null but for GGUF.
absl::Status WriteAdapter(const Plan& plan, const GgufTemplate* pattern,
                          std::vector<KeptWeight>& kept, SideFiles& side);

}  // namespace linchpin
