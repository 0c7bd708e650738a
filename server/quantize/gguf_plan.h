// What becomes of every tensor of a GGUF output.
//
// The output has the tensors of its pattern, in the pattern's order.  Linear
// layers become what the scheme says; a type whose blocks do not divide the rows
// gives way as in llama.cpp.  Embeddings and output head: Q8_0 where they are
// plain numbers, else as they are; for f16 and bf16 that.  Vectors, norms and
// routers: F32.  What stays as it is in a GGUF source is copied byte for byte, the
// order of its rows included.
#pragma once

#include <string_view>

#include "absl/status/status.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/gguf_template.h"
#include "quantize/plan.h"

namespace linchpin {

// Turns the rows of a plan, one per tensor of the source, into those of the
// output: one per part of each tensor of `pattern`.  A `tied` output head may be
// stored besides: it is the embedding.  FEATURE_UNSUPPORTED where
// `pattern` is null; TENSOR_MISSING, TENSOR_SHAPE_INVALID or CONFIG_INVALID where
// it is of another model.
absl::Status FollowGguf(const Checkpoint& checkpoint, bool tied, const GgufTemplate* pattern,
                        Plan& plan);

// The bytes of one row of `columns` elements.
int64_t GgufRowBytes(const GgufBlockType& type, int64_t columns);

}  // namespace linchpin
