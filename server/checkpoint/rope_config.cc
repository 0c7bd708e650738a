#include "checkpoint/rope_config.h"

#include <cmath>
#include <string>

#include "fmt/format.h"

namespace linchpin {
namespace {

constexpr int64_t kMaxPositions = int64_t{1} << 40;

// What scalings need to know of the model around them.
struct Around {
  int64_t max_positions = 0;
  std::optional<int64_t> original_max_position;
};

absl::StatusOr<double> RequiredNumber(const ConfigFields& rope, std::string_view key) {
  ASSIGN_OR_RETURN(const auto number, rope.Positive(key));
  if (!number) return rope.Invalid(key, "is missing");
  return *number;
}

absl::Status RequireOriginal(const ConfigFields& rope, const Around& around, RopeConfig& config) {
  ASSIGN_OR_RETURN(const auto given,
                   rope.Integer("original_max_position_embeddings", 1, kMaxPositions));
  config.original_max_position = given.value_or(around.original_max_position.value_or(0));
  if (config.original_max_position > 0) return absl::OkStatus();
  return rope.Invalid("original_max_position_embeddings", "is missing");
}

absl::Status ParseFactor(const ConfigFields& rope, const Around&, RopeConfig& config) {
  ASSIGN_OR_RETURN(config.factor, RequiredNumber(rope, "factor"));
  return absl::OkStatus();
}

absl::Status ParseDynamic(const ConfigFields& rope, const Around& around, RopeConfig& config) {
  config.original_max_position = around.max_positions;
  if (around.max_positions == 0) return rope.Invalid("rope_type", "needs max_position_embeddings");
  return ParseFactor(rope, around, config);
}

absl::Status ParseLlama3(const ConfigFields& rope, const Around& around, RopeConfig& config) {
  RETURN_IF_ERROR(ParseFactor(rope, around, config));
  ASSIGN_OR_RETURN(config.low_freq_factor, RequiredNumber(rope, "low_freq_factor"));
  ASSIGN_OR_RETURN(config.high_freq_factor, RequiredNumber(rope, "high_freq_factor"));
  if (config.high_freq_factor <= config.low_freq_factor) {
    return rope.Invalid("high_freq_factor", "must exceed low_freq_factor");
  }
  return RequireOriginal(rope, around, config);
}

// The given factor or, without one, how far the context was stretched.
absl::Status ParseStretch(const ConfigFields& rope, const Around& around, RopeConfig& config) {
  RETURN_IF_ERROR(RequireOriginal(rope, around, config));
  ASSIGN_OR_RETURN(const auto factor, rope.Positive("factor"));
  if (!factor && around.max_positions == 0) return rope.Invalid("factor", "is missing");
  config.factor = factor.value_or(static_cast<double>(around.max_positions) /
                                  static_cast<double>(config.original_max_position));
  return absl::OkStatus();
}

double YarnScale(double factor, double mscale) {
  return factor <= 1 ? 1 : 0.1 * mscale * std::log(factor) + 1;
}

absl::Status ParseYarn(const ConfigFields& rope, const Around& around, RopeConfig& config) {
  RETURN_IF_ERROR(ParseStretch(rope, around, config));
  ASSIGN_OR_RETURN(const auto fast, rope.Positive("beta_fast"));
  ASSIGN_OR_RETURN(const auto slow, rope.Positive("beta_slow"));
  ASSIGN_OR_RETURN(const auto truncate, rope.Bool("truncate"));
  ASSIGN_OR_RETURN(const auto attention, rope.Positive("attention_factor"));
  ASSIGN_OR_RETURN(const auto mscale, rope.Positive("mscale"));
  ASSIGN_OR_RETURN(const auto mscale_all, rope.Positive("mscale_all_dim"));
  config.beta_fast = fast.value_or(config.beta_fast);
  config.beta_slow = slow.value_or(config.beta_slow);
  config.truncate = truncate.value_or(true);
  config.attention_factor = attention              ? *attention
                            : mscale && mscale_all ? YarnScale(config.factor, *mscale) /
                                                         YarnScale(config.factor, *mscale_all)
                                                   : YarnScale(config.factor, 1);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<double>> Divisors(const ConfigFields& rope, std::string_view key) {
  const Json* list = rope.Find(key);
  if (list == nullptr || !list->is_array()) return rope.Invalid(key, "must be a list of numbers");
  std::vector<double> divisors;
  for (const Json& value : *list) {
    if (!value.is_number() || !(value.get<double>() > 0) || !std::isfinite(value.get<double>())) {
      return rope.Invalid(key, "must be a list of numbers above 0");
    }
    divisors.push_back(value.get<double>());
  }
  return divisors;
}

absl::Status ParseLongRope(const ConfigFields& rope, const Around& around, RopeConfig& config) {
  RETURN_IF_ERROR(ParseStretch(rope, around, config));
  ASSIGN_OR_RETURN(config.short_factor, Divisors(rope, "short_factor"));
  ASSIGN_OR_RETURN(config.long_factor, Divisors(rope, "long_factor"));
  ASSIGN_OR_RETURN(const auto attention, rope.Positive("attention_factor"));
  const double original = static_cast<double>(config.original_max_position);
  config.attention_factor = attention ? *attention
                            : config.factor <= 1
                                ? 1
                                : std::sqrt(1 + std::log(config.factor) / std::log(original));
  return absl::OkStatus();
}

absl::Status ParseNothing(const ConfigFields&, const Around&, RopeConfig&) {
  return absl::OkStatus();
}

struct NamedType {
  std::string_view name;
  RopeType type;
  absl::Status (*parse)(const ConfigFields&, const Around&, RopeConfig&);
};

constexpr NamedType kTypes[] = {
    {"default", RopeType::kDefault, ParseNothing}, {"linear", RopeType::kLinear, ParseFactor},
    {"dynamic", RopeType::kDynamic, ParseDynamic}, {"llama3", RopeType::kLlama3, ParseLlama3},
    {"yarn", RopeType::kYarn, ParseYarn},          {"longrope", RopeType::kLongRope, ParseLongRope},
    {"su", RopeType::kLongRope, ParseLongRope},  // its first name
};

// Fills `config` from one object of rope parameters.
absl::Status ParseScaling(const ConfigFields& rope, const Around& around, RopeConfig& config) {
  ASSIGN_OR_RETURN(const auto theta, rope.Positive("rope_theta"));
  config.theta = theta.value_or(config.theta);
  ASSIGN_OR_RETURN(const auto partial, rope.Positive("partial_rotary_factor"));
  config.partial = partial.value_or(config.partial);
  ASSIGN_OR_RETURN(auto type, rope.Text("rope_type"));
  if (!type) {
    ASSIGN_OR_RETURN(type, rope.Text("type"));
  }
  if (!type) return rope.Invalid("rope_type", "is missing");
  for (const NamedType& known : kTypes) {
    if (known.name != *type) continue;
    config.type = known.type;
    return known.parse(rope, around, config);
  }
  return rope.Unsupported("rope_type", fmt::format("\"{}\" is not built", *type));
}

absl::StatusOr<std::optional<double>> GivenTheta(const ConfigFields& fields) {
  ASSIGN_OR_RETURN(const auto theta, fields.Positive("rope_theta"));
  return theta ? theta : fields.Positive("rotary_emb_base");
}

absl::StatusOr<RopeConfig> ParseUnscaled(const ConfigFields& fields, double family_theta) {
  RopeConfig config;
  ASSIGN_OR_RETURN(const auto theta, GivenTheta(fields));
  config.theta = theta.value_or(family_theta);
  for (const std::string_view key : {"partial_rotary_factor", "rotary_pct"}) {
    ASSIGN_OR_RETURN(const auto partial, fields.Positive(key));
    config.partial = partial.value_or(config.partial);
  }
  return config;
}

absl::Status CheckPartial(const ConfigFields& fields, const RopeConfig& config) {
  if (config.partial <= 1) return absl::OkStatus();
  return fields.Invalid("partial_rotary_factor", "must not exceed 1");
}

}  // namespace

absl::StatusOr<RopeConfigs> ParseRope(std::string_view file, const ConfigFields& fields,
                                      double theta, int64_t max_positions) {
  Around around{max_positions, std::nullopt};
  ASSIGN_OR_RETURN(around.original_max_position,
                   fields.Integer("original_max_position_embeddings", 1, kMaxPositions));
  RopeConfigs configs;
  ASSIGN_OR_RETURN(configs.full, ParseUnscaled(fields, theta));
  ASSIGN_OR_RETURN(const auto local_theta, fields.Positive("rope_local_base_freq"));
  ASSIGN_OR_RETURN(const Json* parameters, fields.Object("rope_parameters"));
  ASSIGN_OR_RETURN(const Json* scaling, fields.Object("rope_scaling"));

  if (local_theta) {  // never scaled
    configs.windowed = configs.full;
    configs.windowed.theta = *local_theta;
  }
  const bool nested = parameters != nullptr && (parameters->contains("full_attention") ||
                                                parameters->contains("sliding_attention"));
  if (nested) {
    const ConfigFields kinds(fmt::format("{}: rope_parameters", file), *parameters);
    for (const auto& [key, config] : {std::pair("full_attention", &configs.full),
                                      std::pair("sliding_attention", &configs.windowed)}) {
      ASSIGN_OR_RETURN(const Json* object, kinds.Object(key));
      if (object == nullptr) continue;
      const ConfigFields rope(fmt::format("{}: rope_parameters: {}", file, key), *object);
      RETURN_IF_ERROR(ParseScaling(rope, around, *config));
    }
  } else if (const Json* object = parameters != nullptr ? parameters : scaling) {
    const auto* name = parameters != nullptr ? "rope_parameters" : "rope_scaling";
    const ConfigFields rope(fmt::format("{}: {}", file, name), *object);
    RETURN_IF_ERROR(ParseScaling(rope, around, configs.full));
    ASSIGN_OR_RETURN(const auto beside, GivenTheta(fields));
    if (beside && configs.full.theta != *beside) {
      return rope.Invalid("rope_theta", "differs from the rope_theta beside it");
    }
  }
  if (!local_theta && !nested) configs.windowed = configs.full;
  RETURN_IF_ERROR(CheckPartial(fields, configs.full));
  RETURN_IF_ERROR(CheckPartial(fields, configs.windowed));
  return configs;
}

}  // namespace linchpin
