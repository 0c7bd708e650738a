#include "quantize/linear_layers.h"

#include <algorithm>
#include <initializer_list>
#include <utility>

#include "base/status.h"
#include "checkpoint/model_config.h"
#include "fmt/format.h"
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

TensorRoles RolesByFamily(const Checkpoint& checkpoint, const ModelConfig& config) {
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

std::vector<std::string> NamesOf(std::initializer_list<const ExpectedTensor*> tensors) {
  std::vector<std::string> names;
  for (const ExpectedTensor* tensor : tensors) {
    if (!tensor->name.empty()) names.push_back(tensor->name);
  }
  return names;
}

std::vector<std::string> NormNames(const NormTensors& norm) {
  return NamesOf({&norm.gain, &norm.bias});
}

void AddNormed(const ModelTensors& tensors, const ModelConfig& config, int layer,
               std::vector<NormedLayers>& normed) {
  const AttentionTensors attention = tensors.Attention(layer);
  const MlpTensors mlp = tensors.Mlp(layer, kNoExpert);
  NormedLayers of_attention = {NormNames(attention.input_norm),
                               NamesOf({&attention.query.weight, &attention.key.weight,
                                        &attention.value.weight, &attention.qkv.weight})};
  NormedLayers of_mlp = {NormNames(tensors.MlpInputNorm(layer)),
                         NamesOf({&mlp.gate.weight, &mlp.up.weight, &mlp.gate_up.weight})};
  const bool shared = config.architecture.parallel && !tensors.MlpInputNorm(layer).exists;
  if (shared) {
    of_attention.layers.insert(of_attention.layers.end(), of_mlp.layers.begin(),
                               of_mlp.layers.end());
  }
  const bool routed = tensors.Experts(layer) > 0;
  if (!routed || !shared) normed.push_back(std::move(of_attention));
  if (!routed && !shared) normed.push_back(std::move(of_mlp));
}

std::vector<NormedLayers> NormedByFamily(const Checkpoint& checkpoint, const ModelConfig& config) {
  const NormKind kind = config.architecture.norm;
  std::vector<NormedLayers> normed;
  if (kind != NormKind::kRms && kind != NormKind::kLayer) return normed;
  const ModelTensors tensors(checkpoint, config);
  for (int layer = 0; layer < static_cast<int>(config.layers); ++layer) {
    AddNormed(tensors, config, layer, normed);
  }
  std::erase_if(normed,
                [](const NormedLayers& each) { return each.norm.empty() || each.layers.empty(); });
  return normed;
}

// A name that some family gives to a linear layer, below the block's; {} stands
// for the number of an expert.
struct KnownName {
  std::string_view group;  // of those that consumers fuse within a block
  bool transposed = false;
  bool expert = false;
};
using KnownNames = std::map<std::string_view, KnownName>;

KnownNames NamesOfAllFamilies() {
  KnownNames known;
  for (const Architecture& family : Architectures()) {
    const auto add = [&](std::string_view group, std::initializer_list<std::string_view> names,
                         bool expert = false) {
      for (const std::string_view name : names) {
        if (name.empty()) continue;
        KnownName& entry = known.try_emplace(name, KnownName{group, false, expert}).first->second;
        entry.transposed |= family.transposed;  // in doubt it stays
      }
    };
    if (family.qkv_layout == QkvLayout::kSeparate) {
      add("qkv", {family.query, family.key, family.value});
    } else {
      add("qkv", {family.qkv});
    }
    add("o", {family.attention_output});
    add("gate_up", {family.gate, family.up, family.gate_up});
    add("down", {family.down});
    add("shared_gate_up", {family.shared_gate, family.shared_up});
    add("shared_down", {family.shared_down});
    add("experts", {family.expert_gate, family.expert_up, family.expert_down}, /*expert=*/true);
  }
  return known;
}

bool IsNumber(std::string_view part) {
  return !part.empty() && part.find_first_not_of("0123456789") == std::string_view::npos;
}

// "model.layers.3.mlp.experts.7.up_proj.weight": the block "model.layers.3" and
// in it "mlp.experts.{}.up_proj"; both empty for what is in no block.
std::pair<std::string, std::string> BlockAndName(std::string_view tensor) {
  constexpr std::string_view kWeight = ".weight";
  if (!tensor.ends_with(kWeight)) return {};
  tensor.remove_suffix(kWeight.size());
  std::string block;
  std::string name;
  bool inside = false;
  while (!tensor.empty()) {
    const std::string_view part = tensor.substr(0, tensor.find('.'));
    tensor.remove_prefix(std::min(part.size() + 1, tensor.size()));
    std::string& to = inside ? name : block;
    if (!to.empty()) to += '.';
    to += inside && IsNumber(part) ? "{}" : part;
    inside = inside || IsNumber(part);
  }
  return {block, name};
}

TensorRoles RolesByName(const Checkpoint& checkpoint) {
  const KnownNames known = NamesOfAllFamilies();
  TensorRoles roles;
  std::map<std::pair<std::string, std::string_view>, int> groups;
  for (const StoredTensor& tensor : checkpoint.tensors()) {
    const auto [block, name] = BlockAndName(tensor.info.name);
    const auto found = known.find(name);
    if (found == known.end()) continue;
    const auto number = static_cast<int>(groups.size());
    const auto group = groups.try_emplace({block, found->second.group}, number).first;
    roles[tensor.info.name] = {.transposed = found->second.transposed,
                               .expert = found->second.expert,
                               .fused = group->second};
  }
  return roles;
}

}  // namespace

absl::StatusOr<LinearLayers> LinearLayersOf(const Checkpoint& checkpoint) {
  const absl::StatusOr<ModelConfig> config =
      ModelConfig::Parse("config.json", checkpoint.config_text());
  LinearLayers layers;
  if (config.ok()) {
    layers.roles = RolesByFamily(checkpoint, *config);
    layers.normed = NormedByFamily(checkpoint, *config);
    const ModelTensors tensors(checkpoint, *config);
    layers.outer = OuterTensors{tensors.Embedding().name, tensors.Output().weight.name,
                                config->tied_embeddings.value_or(false)};
    layers.output_head = config->architecture.output;
    return layers;
  }
  if (ReasonOf(config.status()) != Reason::kFamilyUnsupported) return config.status();
  layers.roles = RolesByName(checkpoint);
  layers.note =
      "the model's family is not known here: its linear layers are those that have names which "
      "known families give to theirs, and the others stay";
  return layers;
}

}  // namespace linchpin
