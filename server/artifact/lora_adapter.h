// The adapter that puts super weights back at run time: low-rank factors whose
// product is zero but for what each super weight misses in the quantized model.
//
// As many ranks as rows (or columns, where they are fewer) hold one; a single
// super weight needs one.  PEFT: https://github.com/huggingface/peft, loaded by
// transformers and vLLM; GGUF: llama.cpp's `--lora`.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "checkpoint/checkpoint.h"
#include "storage/storage.h"
#include "tensor/weight_position.h"

namespace linchpin {

// What a matrix [rows, columns] misses.
struct AdaptedWeight {
  std::string name;  // "model.layers.1.mlp.down_proj.weight" or "blk.1.ffn_down.weight"
  int64_t rows = 0;
  int64_t columns = 0;
  struct Miss {
    int64_t row = 0;
    int64_t column = 0;
    float value = 0;  // to be added there
  };
  std::vector<Miss> misses;
};

// A file of its own, all of it.
struct AdapterFile {
  std::string name;
  std::string bytes;
};

inline constexpr std::string_view kPeftDirectory = "adapter";
inline constexpr std::string_view kGgufAdapterName = "super-weights-lora.gguf";

// adapter/adapter_config.json and adapter/adapter_model.safetensors, in F32.
std::vector<AdapterFile> PeftAdapter(const std::vector<AdaptedWeight>& weights);

// `architecture` is the model's general.architecture.
absl::StatusOr<AdapterFile> GgufAdapter(std::string_view architecture,
                                        const std::vector<AdaptedWeight>& weights);

// What the adapter beside `output`, the model in `directory`, adds to a weight:
// TENSOR_MISSING where it has no factors for its tensor, TENSOR_SHAPE_INVALID
// where they are not of its shape.
absl::StatusOr<float> ReadAdapter(const Storage& storage, std::string_view directory,
                                  const Checkpoint& output, const WeightPosition& position);

}  // namespace linchpin
