// What the tensors of a llama model are called and which shapes they have.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "checkpoint/model_config.h"

namespace linchpin {

struct ExpectedTensor {
  std::string name;
  std::vector<int64_t> shape;
};

// The place of each tensor in the result of LayerTensors.
enum LayerTensor {
  kInputNorm,
  kQuery,
  kKey,
  kValue,
  kAttentionOutput,
  kPostAttentionNorm,
  kGate,
  kUp,
  kDown,
  kLayerTensorCount,
};

// The weights of one decoder layer, in the order of LayerTensor.
std::vector<ExpectedTensor> LayerTensors(const ModelConfig& config, int layer);

// The bias beside a weight ("...weight" becomes "...bias"), where the config
// says that the layer has one; an empty name otherwise.
ExpectedTensor BiasOf(const ModelConfig& config, LayerTensor which, const ExpectedTensor& weight);

// Embedding, final norm, output projection.
ExpectedTensor EmbeddingTensor(const ModelConfig& config);
ExpectedTensor FinalNormTensor(const ModelConfig& config);
ExpectedTensor OutputTensor(const ModelConfig& config);

// "model.layers.11.mlp.down_proj.weight"
std::string DownProjName(int layer);

}  // namespace linchpin
