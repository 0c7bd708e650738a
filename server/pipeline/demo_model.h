// A small llama checkpoint that the program makes itself, whose super weight
// really matters.
//
// Deterministic, a few MB, bf16.  Its language is a fixed successor table with
// known answers; every later layer's attention rests on the first token as a
// sink, which one scalar of layers.1.mlp.down_proj makes visible.  Without that
// scalar attention spreads over the text and the answers drown.
#pragma once

#include <string_view>

#include "absl/status/status.h"
#include "storage/storage.h"

namespace linchpin {

// Writes config.json, model.safetensors and tokens.json (windows of token ids,
// a JSON array of arrays) as a new directory.
absl::Status WriteDemoModel(const Storage& storage, std::string_view directory, bool overwrite);

}  // namespace linchpin
