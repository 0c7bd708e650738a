#include "quantize/linear_layers.h"

#include <initializer_list>

#include "forward/model_tensors.h"

namespace linchpin {
namespace {

class Roles {
 public:
  void AddOther(const ExpectedTensor& tensor, std::string_view what) {
    if (!tensor.name.empty()) roles_[tensor.name] = {.other = what};
  }
  void AddOther(const LinearTensors& linear, std::string_view what) {
    AddOther(linear.weight, what);
    AddOther(linear.bias, what);
  }
  void AddNorms(std::initializer_list<const NormTensors*> norms) {
    for (const NormTensors* norm : norms) {
      AddOther(norm->gain, "norm");
      AddOther(norm->bias, "norm");
    }
  }
  // Layers that consumers fuse.
  void AddFused(std::initializer_list<const LinearTensors*> layers) {
    AddTo(++fused_, layers, /*expert=*/false);
  }
  void AddExpert(const MlpTensors& mlp, bool first) {
    if (first) ++fused_;
    AddTo(fused_, {&mlp.gate, &mlp.up, &mlp.gate_up, &mlp.down}, /*expert=*/true);
  }
  TensorRoles Take() { return std::move(roles_); }

 private:
  void AddTo(int fused, std::initializer_list<const LinearTensors*> layers, bool expert) {
    for (const LinearTensors* linear : layers) {
      AddOther(linear->bias, "bias");
      if (linear->weight.name.empty()) continue;
      roles_[linear->weight.name] = {
          .transposed = linear->transposed, .expert = expert, .fused = fused};
    }
  }

  TensorRoles roles_;
  int fused_ = 0;
};

void AddLayer(const ModelTensors& tensors, int layer, Roles& roles) {
  const AttentionTensors attention = tensors.Attention(layer);
  const NormTensors mlp_input = tensors.MlpInputNorm(layer);
  const NormTensors mlp_output = tensors.MlpOutputNorm(layer);
  roles.AddNorms({&attention.input_norm, &attention.output_norm, &attention.query_norm,
                  &attention.key_norm, &mlp_input, &mlp_output});
  roles.AddFused({&attention.query, &attention.key, &attention.value});
  roles.AddFused({&attention.qkv});
  roles.AddFused({&attention.output});
  const MlpTensors mlp = tensors.Mlp(layer, kNoExpert);
  roles.AddFused({&mlp.gate, &mlp.up});
  roles.AddFused({&mlp.gate_up});
  roles.AddFused({&mlp.down});
  for (int expert = 0; expert < tensors.Experts(layer); ++expert) {
    roles.AddExpert(tensors.Mlp(layer, expert), expert == 0);
  }
  roles.AddOther(tensors.Router(layer), "router");
  roles.AddOther(tensors.SharedRouter(layer), "router");
}

}  // namespace

TensorRoles RolesOf(const Checkpoint& checkpoint, const ModelConfig& config) {
  const ModelTensors tensors(checkpoint, config);
  Roles roles;
  const NormTensors final_norm = tensors.FinalNorm();
  roles.AddNorms({&final_norm});
  roles.AddOther(tensors.Output(), "output head");
  roles.AddOther(tensors.Embedding(), "embedding");
  roles.AddOther(tensors.LearnedPositions(), "positions");
  for (int layer = 0; layer < static_cast<int>(config.layers); ++layer) {
    AddLayer(tensors, layer, roles);
  }
  return roles.Take();
}

OuterTensors OuterTensorsOf(const Checkpoint& checkpoint, const ModelConfig& config) {
  const ModelTensors tensors(checkpoint, config);
  return {tensors.Embedding().name, tensors.Output().weight.name};
}

}  // namespace linchpin
