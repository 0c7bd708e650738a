// A small llama checkpoint that the program makes itself, whose super weight
// really matters.
//
// Deterministic, 6 MB, bf16.  Its language has known answers: every token has
// one successor, and sentences start anywhere.  In every layer after the second
// attention rests on the first token, as in trained models: that token's key
// stands out because one scalar, layers.1.mlp.down_proj.weight[1, 37], writes a
// super activation there, and its value is nothing.  Zero the scalar and
// attention falls on the text, whose values drown the answers.
#pragma once

#include <cstdint>
#include <string_view>

#include "absl/status/statusor.h"
#include "storage/storage.h"

namespace linchpin {

// Writes config.json, model.safetensors and tokens.json (8 windows of 128 token
// ids, a JSON array of arrays) as a new directory; returns the bytes written.
// OUTPUT_EXISTS if something is there.
absl::StatusOr<uint64_t> WriteDemoModel(const Storage& storage, std::string_view directory);

}  // namespace linchpin
