// How much memory a job will need, from headers alone: what admission reserves.
#pragma once

#include <cstdint>
#include <string_view>

#include "absl/status/statusor.h"
#include "checkpoint/checkpoint.h"
#include "storage/storage.h"

namespace linchpin {

// Bytes at the peak of a job: the largest decoder layer in float32 beside one of
// its tensors as stored, a slab of the output head, the encoders' slabs, and
// what the libraries take.  An upper bound for short prompts; activations of
// long proofs come on top.
uint64_t EstimateMemory(const Checkpoint& checkpoint, int threads);

// The same for a source that is not open yet; the errors of Checkpoint::Open.
absl::StatusOr<uint64_t> EstimateMemory(const Storage& storage, std::string_view source,
                                        int threads);

}  // namespace linchpin
