#include "checkpoint/config_difference.h"

#include <algorithm>
#include <cmath>
#include <string_view>
#include <utility>
#include <vector>

#include "checkpoint/gguf_rope.h"
#include "checkpoint/gguf_settings.h"

namespace linchpin {
namespace {

struct Named {
  std::string_view name;
  double value = 0;
};

template <typename T>
double Number(T value) {
  return static_cast<double>(value);
}

template <typename List>
void AddEach(std::string_view name, const List& values, std::vector<Named>& settings) {
  for (const auto& value : values) settings.push_back({name, Number(value)});
}

void AddRotation(const RopeConfig& rope, int64_t dimensions, std::vector<Named>& settings) {
  const RopeDivisors divisors = RopeDivisorsOf(rope, dimensions);
  const bool by_parameters = rope.type == RopeType::kLinear || rope.type == RopeType::kYarn ||
                             rope.type == RopeType::kDynamic;
  const bool yarn = rope.type == RopeType::kYarn;
  const bool two_lists = divisors.within != divisors.beyond;
  settings.insert(settings.end(), {{"rope theta", rope.theta},
                                   {"rope type", by_parameters ? Number(rope.type) : 0},
                                   {"rope factor", by_parameters ? rope.factor : 1},
                                   {"rope attention factor", rope.attention_factor},
                                   {"rope beta_fast", yarn ? rope.beta_fast : 0},
                                   {"rope beta_slow", yarn ? rope.beta_slow : 0},
                                   {"rope truncation", yarn ? Number(rope.truncate) : 1},
                                   {"rope's first positions",
                                    yarn || two_lists ? Number(rope.original_max_position) : 0}});
  AddEach("rope factor of a channel", divisors.within, settings);
  AddEach("rope factor of a channel beyond the first positions", divisors.beyond, settings);
}

std::vector<Named> SettingsOf(const ModelConfig& config) {
  const bool windowed = std::any_of(config.windows.begin(), config.windows.end(),
                                    [](int64_t window) { return window != 0; });
  std::vector<Named> settings = {
      {"hidden size", Number(config.hidden)},
      {"number of layers", Number(config.layers)},
      {"number of heads", Number(config.heads)},
      {"number of key-value heads", Number(config.kv_heads)},
      {"head size", Number(config.head_dim)},
      {"intermediate size", Number(config.intermediate)},
      {"vocabulary", Number(config.vocab)},
      {"norm epsilon", config.norm_eps},
      {"activation", Number(config.activation)},
      {"attention scale", config.attention_scale},
      {"attention softcap", config.attention_softcap},
      {"output softcap", config.output_softcap},
      {"clip of queries, keys and values", config.clip_qkv},
      {"number of experts", Number(config.experts.count)},
      {"experts per token", Number(config.experts.per_token)},
      {"renormalization of experts", Number(config.experts.renormalize)},
      {"width of an expert", Number(config.experts.intermediate)},
      {"width of the shared expert", Number(config.experts.shared_intermediate)},
      {"rotated channels", Number(RotatedDimensions(config))}};
  AddRotation(config.rope.full, RotatedDimensions(config), settings);
  AddEach("window of a layer", config.windows, settings);
  AddEach("use of experts in a layer", config.sparse, settings);
  // Where no layer has a window, nothing is rotated so.
  AddRotation(windowed ? config.rope.windowed : config.rope.full, RotatedDimensions(config),
              settings);
  return settings;
}

}  // namespace

std::optional<ConfigDifference> FirstDifference(const ModelConfig& mine,
                                                const ModelConfig& theirs) {
  const std::vector<Named> ours = SettingsOf(mine);
  const std::vector<Named> others = SettingsOf(theirs);
  // As many of each: a difference in their number comes before them.
  for (size_t i = 0; i < std::min(ours.size(), others.size()); ++i) {
    if (std::fabs(ours[i].value - others[i].value) <= 2e-6 * std::fabs(ours[i].value)) continue;
    return ConfigDifference{std::string(ours[i].name), ours[i].value, others[i].value};
  }
  return std::nullopt;
}

}  // namespace linchpin
