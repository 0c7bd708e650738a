#include "forward/layer_tensors.h"

#include "fmt/format.h"

namespace linchpin {

std::vector<ExpectedTensor> LayerTensors(const ModelConfig& config, int layer) {
  const int64_t query = config.heads * config.head_dim;
  const int64_t key = config.kv_heads * config.head_dim;
  const auto name = [layer](std::string_view rest) {
    return fmt::format("model.layers.{}.{}.weight", layer, rest);
  };
  return {
      {name("input_layernorm"), {config.hidden}},
      {name("self_attn.q_proj"), {query, config.hidden}},
      {name("self_attn.k_proj"), {key, config.hidden}},
      {name("self_attn.v_proj"), {key, config.hidden}},
      {name("self_attn.o_proj"), {config.hidden, query}},
      {name("post_attention_layernorm"), {config.hidden}},
      {name("mlp.gate_proj"), {config.intermediate, config.hidden}},
      {name("mlp.up_proj"), {config.intermediate, config.hidden}},
      {name("mlp.down_proj"), {config.hidden, config.intermediate}},
  };
}

ExpectedTensor BiasOf(const ModelConfig& config, LayerTensor which, const ExpectedTensor& weight) {
  const bool attention = which >= kQuery && which <= kAttentionOutput;
  const bool mlp = which >= kGate && which <= kDown;
  if (!(attention && config.attention_bias) && !(mlp && config.mlp_bias)) return {};
  std::string name = weight.name;
  name.replace(name.size() - 6, 6, "bias");
  return {name, {weight.shape[0]}};
}

ExpectedTensor EmbeddingTensor(const ModelConfig& config) {
  return {"model.embed_tokens.weight", {config.vocab, config.hidden}};
}

ExpectedTensor FinalNormTensor(const ModelConfig& config) {
  return {"model.norm.weight", {config.hidden}};
}

ExpectedTensor OutputTensor(const ModelConfig& config) {
  return {"lm_head.weight", {config.vocab, config.hidden}};
}

std::string DownProjName(int layer) { return LayerTensors({}, layer)[kDown].name; }

}  // namespace linchpin
