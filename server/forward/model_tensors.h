// What the tensors of a model are called and which shapes they have.
//
// Made from the family's data and the config; the one thing that is looked up
// in the checkpoint is the prefix in front of the text model, which differs
// where it was saved without its head or inside a multimodal one.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "checkpoint/model_config.h"

namespace linchpin {

struct ExpectedTensor {
  std::string name;  // empty: there is none
  std::vector<int64_t> shape;
};

// A matrix [out, in], or [in, out] where `transposed`, and its bias [out].
struct LinearTensors {
  ExpectedTensor weight;
  ExpectedTensor bias;
  bool transposed = false;
};

struct NormTensors {
  ExpectedTensor gain;
  ExpectedTensor bias;
  bool exists = false;  // it may exist without tensors
};

// down(activation(gate(x)) * up(x)); without a gate, down(activation(up(x))).
struct MlpTensors {
  LinearTensors gate;
  LinearTensors up;
  LinearTensors gate_up;  // in place of the two: the gate's rows, then up's
  LinearTensors down;
};

struct AttentionTensors {
  NormTensors input_norm;
  NormTensors output_norm;
  LinearTensors query;
  LinearTensors key;
  LinearTensors value;
  LinearTensors qkv;  // in place of the three
  NormTensors query_norm;
  NormTensors key_norm;
  LinearTensors output;
};

// All that a layer is made of, as ModelTensors names it.
struct LayerTensors {
  AttentionTensors attention;
  NormTensors mlp_input_norm;
  NormTensors mlp_output_norm;
  MlpTensors mlp;  // as of kNoExpert
  std::vector<MlpTensors> experts;
  LinearTensors router;
  LinearTensors shared_router;

  std::vector<ExpectedTensor> All() const;
};

// An expert's number where a layer has one MLP, or the expert that every token
// goes through.
inline constexpr int kNoExpert = -1;

class ModelTensors {
 public:
  // Finds the prefix.  Never fails: what is missing is found missing by name.
  ModelTensors(const Checkpoint& checkpoint, const ModelConfig& config);

  ExpectedTensor Embedding() const;
  ExpectedTensor LearnedPositions() const;
  NormTensors FinalNorm() const;
  // The embedding's where the two are tied.
  LinearTensors Output() const;

  AttentionTensors Attention(int layer) const;
  NormTensors MlpInputNorm(int layer) const;
  NormTensors MlpOutputNorm(int layer) const;
  // One expert's; with kNoExpert the layer's MLP or the shared expert, which
  // has no `down` where there is neither.
  MlpTensors Mlp(int layer, int expert) const;
  LinearTensors Router(int layer) const;        // empty in a layer without experts
  LinearTensors SharedRouter(int layer) const;  // the shared expert's, [1, hidden]
  // Experts of a layer, 0 where it has one MLP.
  int Experts(int layer) const;

  LayerTensors Layer(int layer) const;
  // All tensors of the model around the layers.
  std::vector<ExpectedTensor> Around() const;

 private:
  std::string LayerPrefix(int layer) const;
  LinearTensors Linear(const std::string& prefix, std::string_view name, int64_t out, int64_t in,
                       bool bias) const;
  NormTensors Norm(const std::string& prefix, std::string_view name, int64_t width) const;

  const ModelConfig& config_;
  std::string base_;  // "model.", "model.language_model.", ...
  std::string output_;
};

}  // namespace linchpin
