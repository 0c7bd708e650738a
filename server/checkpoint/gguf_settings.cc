#include "checkpoint/gguf_settings.h"

#include <algorithm>
#include <array>
#include <optional>
#include <set>
#include <string>

#include "base/status.h"
#include "fmt/format.h"
#include "fmt/ranges.h"

namespace linchpin {
namespace {

double Number(int64_t value) { return static_cast<double>(value); }

// The n of "all layers but every nth see a window"; 0 where it is not so.
int64_t WindowPeriod(const ModelConfig& config) {
  const auto whole = std::find(config.windows.begin(), config.windows.end(), 0);
  const int64_t period = whole - config.windows.begin() + 1;
  for (int64_t layer = 0; layer < config.layers; ++layer) {
    const bool sees_all = config.windows[static_cast<size_t>(layer)] == 0;
    if (sees_all != ((layer + 1) % period == 0)) return 0;
  }
  return period;
}

// What config.json calls a setting; 0 stands for none.
struct Setting {
  std::string_view hf;
  double (*value)(const ModelConfig&);
};
constexpr auto kSettings = std::to_array<Setting>({
    {"max_position_embeddings", [](const ModelConfig& c) { return Number(c.max_positions); }},
    {"hidden_size", [](const ModelConfig& c) { return Number(c.hidden); }},
    {"num_hidden_layers", [](const ModelConfig& c) { return Number(c.layers); }},
    {"intermediate_size", [](const ModelConfig& c) { return Number(c.intermediate); }},
    {"rms_norm_eps", [](const ModelConfig& c) { return c.norm_eps; }},
    {"num_local_experts", [](const ModelConfig& c) { return Number(c.experts.count); }},
    {"num_experts", [](const ModelConfig& c) { return Number(c.experts.count); }},
    {"num_experts_per_tok", [](const ModelConfig& c) { return Number(c.experts.per_token); }},
    {"moe_intermediate_size", [](const ModelConfig& c) { return Number(c.experts.intermediate); }},
    {"shared_expert_intermediate_size",
     [](const ModelConfig& c) { return Number(c.experts.shared_intermediate); }},
    {"sliding_window",
     [](const ModelConfig& c) {
       return Number(*std::max_element(c.windows.begin(), c.windows.end()));
     }},
    {"sliding_window_pattern", [](const ModelConfig& c) { return Number(WindowPeriod(c)); }},
    {"attn_logit_softcapping", [](const ModelConfig& c) { return c.attention_softcap; }},
    {"final_logit_softcapping", [](const ModelConfig& c) { return c.output_softcap; }},
    {"rope_local_base_freq", [](const ModelConfig& c) { return c.rope.windowed.theta; }},
});

class SettingsWriter {
 public:
  SettingsWriter(const ModelConfig& config, const GgufFamily& family, GgufPairs& pairs)
      : config_(config), family_(family), pairs_(pairs) {}

  void Write() {
    pairs_.Add("general.architecture", family_.architecture);
    pairs_.Add("general.type", std::string_view("model"));
    for (const auto& keys : family_.keys) {
      for (const GgufKey& key : keys) AddKey(key);
    }
    AddInteger("vocab_size", config_.vocab);
    AddInteger("attention.head_count", config_.heads);
    AddInteger("attention.head_count_kv", config_.kv_heads);
    if (config_.head_dim * config_.heads != config_.hidden) {
      AddInteger("attention.key_length", config_.head_dim);
      AddInteger("attention.value_length", config_.head_dim);
    }
    AddInteger("rope.dimension_count", RotatedDimensions(config_));
    AddReal("rope.freq_base", config_.rope.full.theta);
    AddScaling(config_.rope.full);
  }

 private:
  std::string Key(std::string_view key) const {
    return fmt::format("{}.{}", family_.architecture, key);
  }
  void AddInteger(std::string_view key, int64_t value) {
    pairs_.Add(Key(key), static_cast<uint32_t>(value));
  }
  void AddReal(std::string_view key, double value) {
    pairs_.Add(Key(key), static_cast<float>(value));
  }

  void AddKey(const GgufKey& key) {
    const auto* setting = std::find_if(kSettings.begin(), kSettings.end(),
                                       [&](const Setting& each) { return each.hf == key.hf; });
    const double value = setting == kSettings.end() ? 0 : setting->value(config_);
    if (value == 0) return;
    if (key.kind == GgufKeyKind::kReal) {
      AddReal(key.gguf, value);
    } else {
      AddInteger(key.gguf, static_cast<int64_t>(value));
    }
  }

  void AddScaling(const RopeConfig& rope) {
    const auto add_type = [&](std::string_view type) {
      pairs_.Add(Key("rope.scaling.type"), type);
    };
    if (rope.type == RopeType::kLinear || rope.type == RopeType::kYarn) {
      add_type(rope.type == RopeType::kLinear ? "linear" : "yarn");
      AddReal("rope.scaling.factor", rope.factor);
    }
    if (rope.type == RopeType::kYarn) {
      AddReal("rope.scaling.yarn_beta_fast", rope.beta_fast);
      AddReal("rope.scaling.yarn_beta_slow", rope.beta_slow);
    }
    if (rope.type == RopeType::kLongRope) {
      add_type("longrope");
      AddReal("rope.scaling.attn_factor", rope.attention_factor);
    }
    if (rope.type == RopeType::kYarn || rope.type == RopeType::kLongRope) {
      AddInteger("rope.scaling.original_context_length", rope.original_max_position);
    }
  }

  const ModelConfig& config_;
  const GgufFamily& family_;
  GgufPairs& pairs_;
};

}  // namespace

absl::StatusOr<const GgufFamily*> GgufFamilyOf(const ModelConfig& config) {
  std::set<std::string_view> known;
  for (const GgufFamily& family : GgufFamilies()) {
    if (family.model_type == config.family) return &family;
    known.insert(family.model_type);
  }
  return Error(Reason::kFamilyUnsupported, "config.json",
               fmt::format("model_type \"{}\" is not written as GGUF", config.family),
               fmt::format("supported: {}; or choose another format", fmt::join(known, ", ")));
}

void AddGgufSettings(const ModelConfig& config, const GgufFamily& family, GgufPairs& pairs) {
  SettingsWriter(config, family, pairs).Write();
}

int64_t RotatedDimensions(const ModelConfig& config) {
  return static_cast<int64_t>(static_cast<double>(config.head_dim) * config.rope.full.partial);
}

}  // namespace linchpin
