#include "forward/model_tensors.h"

#include "fmt/format.h"

namespace linchpin {
namespace {

// The first prefix under which the embedding stands.  The family's own comes
// first, then none (saved without the head), then the ways to sit in a
// multimodal model.
std::string FindBase(const Checkpoint& checkpoint, const Architecture& family) {
  const std::string base(family.base);
  const std::string inner = base.substr(base.find('.') + 1);  // "model.decoder." -> "decoder."
  for (const std::string& candidate : {base, inner, "model.language_model." + inner,
                                       "language_model." + base, "language_model." + inner}) {
    if (checkpoint.Has(fmt::format("{}{}.weight", candidate, family.embedding))) return candidate;
  }
  return base;
}

std::string FindOutput(const Checkpoint& checkpoint, const Architecture& family) {
  for (const std::string_view prefix : {"", "language_model."}) {
    std::string name = fmt::format("{}{}", prefix, family.output);
    if (checkpoint.Has(name + ".weight")) return name;
  }
  return std::string(family.output);
}

// Collects the tensors that there are.
class Collection {
 public:
  void Add(const ExpectedTensor& tensor) {
    if (!tensor.name.empty()) tensors_.push_back(tensor);
  }
  void Add(const LinearTensors& linear) {
    Add(linear.weight);
    Add(linear.bias);
  }
  void Add(const NormTensors& norm) {
    Add(norm.gain);
    Add(norm.bias);
  }
  void Add(const MlpTensors& mlp) {
    for (const LinearTensors* linear : {&mlp.gate, &mlp.up, &mlp.gate_up, &mlp.down}) Add(*linear);
  }
  void Add(const AttentionTensors& attention) {
    for (const LinearTensors* linear :
         {&attention.query, &attention.key, &attention.value, &attention.qkv, &attention.output}) {
      Add(*linear);
    }
    for (const NormTensors* norm : {&attention.input_norm, &attention.output_norm,
                                    &attention.query_norm, &attention.key_norm}) {
      Add(*norm);
    }
  }
  std::vector<ExpectedTensor> Take() { return std::move(tensors_); }

 private:
  std::vector<ExpectedTensor> tensors_;
};

}  // namespace

ModelTensors::ModelTensors(const Checkpoint& checkpoint, const ModelConfig& config)
    : config_(config),
      base_(FindBase(checkpoint, config.architecture)),
      output_(FindOutput(checkpoint, config.architecture)) {
  const bool stored = checkpoint.Has(output_ + ".weight");
  if (!stored && config.tied_embeddings.value_or(true)) output_.clear();
}

std::string ModelTensors::LayerPrefix(int layer) const {
  return fmt::format("{}{}.{}.", base_, config_.architecture.layers, layer);
}

LinearTensors ModelTensors::Linear(const std::string& prefix, std::string_view name, int64_t out,
                                   int64_t in, bool bias) const {
  if (name.empty()) return {};
  LinearTensors linear;
  linear.transposed = config_.architecture.transposed;
  linear.weight = {fmt::format("{}{}.weight", prefix, name), {out, in}};
  if (linear.transposed) std::swap(linear.weight.shape[0], linear.weight.shape[1]);
  if (bias) linear.bias = {fmt::format("{}{}.bias", prefix, name), {out}};
  return linear;
}

NormTensors ModelTensors::Norm(const std::string& prefix, std::string_view name,
                               int64_t width) const {
  NormTensors norm;
  norm.exists = !name.empty();
  const NormKind kind = config_.architecture.norm;
  if (!norm.exists || kind == NormKind::kLayerPlain) return norm;
  norm.gain = {fmt::format("{}{}.weight", prefix, name), {width}};
  if (kind == NormKind::kLayer) norm.bias = {fmt::format("{}{}.bias", prefix, name), {width}};
  return norm;
}

ExpectedTensor ModelTensors::Embedding() const {
  return {fmt::format("{}{}.weight", base_, config_.architecture.embedding),
          {config_.vocab, config_.hidden}};
}

ExpectedTensor ModelTensors::LearnedPositions() const {
  const Architecture& family = config_.architecture;
  if (family.learned_positions.empty()) return {};
  return {fmt::format("{}{}.weight", base_, family.learned_positions),
          {config_.max_positions + family.position_offset, config_.hidden}};
}

NormTensors ModelTensors::FinalNorm() const {
  return Norm(base_, config_.architecture.final_norm, config_.hidden);
}

LinearTensors ModelTensors::Output() const {
  if (output_.empty()) return {Embedding(), {}, false};
  LinearTensors output =
      Linear("", output_, config_.vocab, config_.hidden, config_.architecture.output_bias);
  output.transposed = false;
  output.weight.shape = {config_.vocab, config_.hidden};
  return output;
}

AttentionTensors ModelTensors::Attention(int layer) const {
  const Architecture& family = config_.architecture;
  const std::string prefix = LayerPrefix(layer);
  const int64_t hidden = config_.hidden;
  const int64_t queries = config_.heads * config_.head_dim;
  const int64_t keys = config_.kv_heads * config_.head_dim;
  const bool bias = config_.biases.qkv;
  AttentionTensors attention;
  attention.input_norm = Norm(prefix, family.attention_input_norm, hidden);
  attention.output_norm = Norm(prefix, family.attention_output_norm, hidden);
  if (family.qkv_layout == QkvLayout::kSeparate) {
    attention.query = Linear(prefix, family.query, queries, hidden, bias);
    attention.key = Linear(prefix, family.key, keys, hidden, bias);
    attention.value = Linear(prefix, family.value, keys, hidden, bias);
  } else {
    attention.qkv = Linear(prefix, family.qkv, queries + 2 * keys, hidden, bias);
  }
  if (family.qk_norm != QkNorm::kNone) {
    const bool per_head = family.qk_norm == QkNorm::kHead;
    attention.query_norm = Norm(prefix, family.query_norm, per_head ? config_.head_dim : queries);
    attention.key_norm = Norm(prefix, family.key_norm, per_head ? config_.head_dim : keys);
  }
  attention.output =
      Linear(prefix, family.attention_output, hidden, queries, config_.biases.attention_output);
  return attention;
}

NormTensors ModelTensors::MlpInputNorm(int layer) const {
  return Norm(LayerPrefix(layer), config_.architecture.mlp_input_norm, config_.hidden);
}

NormTensors ModelTensors::MlpOutputNorm(int layer) const {
  return Norm(LayerPrefix(layer), config_.architecture.mlp_output_norm, config_.hidden);
}

int ModelTensors::Experts(int layer) const {
  return config_.sparse[static_cast<size_t>(layer)] ? static_cast<int>(config_.experts.count) : 0;
}

MlpTensors ModelTensors::Mlp(int layer, int expert) const {
  const Architecture& family = config_.architecture;
  const std::string prefix = LayerPrefix(layer);
  const int64_t hidden = config_.hidden;
  const auto mlp = [&](std::string_view gate, std::string_view up, std::string_view gate_up,
                       std::string_view down, int64_t width) {
    const bool bias = config_.biases.mlp;
    MlpTensors tensors;
    if (gate_up.empty()) {
      tensors.gate = Linear(prefix, gate, width, hidden, bias);
      tensors.up = Linear(prefix, up, width, hidden, bias);
    } else {
      tensors.gate_up = Linear(prefix, gate_up, 2 * width, hidden, bias);
    }
    tensors.down = Linear(prefix, down, hidden, width, bias);
    return tensors;
  };
  if (Experts(layer) == 0) {
    return mlp(family.gate, family.up, family.gate_up, family.down, config_.intermediate);
  }
  if (expert == kNoExpert) {
    const int64_t width = config_.experts.shared_intermediate;
    if (width == 0) return {};
    return mlp(family.shared_gate, family.shared_up, "", family.shared_down, width);
  }
  const auto numbered = [expert](std::string_view name) {
    return fmt::format(fmt::runtime(name), expert);
  };
  return mlp(numbered(family.expert_gate), numbered(family.expert_up), "",
             numbered(family.expert_down), config_.experts.intermediate);
}

LinearTensors ModelTensors::Router(int layer) const {
  if (Experts(layer) == 0) return {};
  return Linear(LayerPrefix(layer), config_.architecture.router, config_.experts.count,
                config_.hidden, false);
}

LinearTensors ModelTensors::SharedRouter(int layer) const {
  if (Experts(layer) == 0 || config_.experts.shared_intermediate == 0) return {};
  return Linear(LayerPrefix(layer), config_.architecture.shared_router, 1, config_.hidden, false);
}

LayerTensors ModelTensors::Layer(int layer) const {
  LayerTensors tensors{.attention = Attention(layer),
                       .mlp_input_norm = MlpInputNorm(layer),
                       .mlp_output_norm = MlpOutputNorm(layer),
                       .mlp = Mlp(layer, kNoExpert),
                       .experts = {},
                       .router = Router(layer),
                       .shared_router = SharedRouter(layer)};
  for (int expert = 0; expert < Experts(layer); ++expert) {
    tensors.experts.push_back(Mlp(layer, expert));
  }
  return tensors;
}

std::vector<ExpectedTensor> LayerTensors::All() const {
  Collection all;
  all.Add(attention);
  all.Add(mlp_input_norm);
  all.Add(mlp_output_norm);
  all.Add(mlp);
  for (const MlpTensors& expert : experts) all.Add(expert);
  all.Add(router);
  all.Add(shared_router);
  return all.Take();
}

std::vector<ExpectedTensor> ModelTensors::Around() const {
  Collection all;
  all.Add(Embedding());
  all.Add(LearnedPositions());
  all.Add(FinalNorm());
  all.Add(Output());
  return all.Take();
}

}  // namespace linchpin
