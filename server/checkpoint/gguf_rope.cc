#include "checkpoint/gguf_rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <optional>
#include <string>
#include <utility>

#include "base/status.h"
#include "fmt/format.h"

namespace linchpin {
namespace {

// As every published Llama 3 has them.
constexpr double kLowFrequency = 1;
constexpr double kHighFrequency = 4;

// What Llama 3's rule divides a frequency by.
double Llama3Factor(double frequency, const RopeConfig& rope) {
  const double turns =
      static_cast<double>(rope.original_max_position) * frequency / (2 * std::numbers::pi);
  const double low = rope.low_freq_factor;
  if (turns > rope.high_freq_factor) return 1;
  if (turns < low) return rope.factor;
  const double smooth = (turns - low) / (rope.high_freq_factor - low);
  return 1 / ((1 - smooth) / rope.factor + smooth);
}

std::vector<float> Llama3Factors(const RopeConfig& rope, int64_t dimensions) {
  std::vector<float> factors;
  for (int64_t i = 0; i < dimensions; i += 2) {
    const double exponent = static_cast<double>(i) / static_cast<double>(dimensions);
    factors.push_back(static_cast<float>(Llama3Factor(std::pow(rope.theta, -exponent), rope)));
  }
  return factors;
}

bool IsLlama3(const std::vector<float>& factors, const RopeConfig& rope, int64_t dimensions) {
  const std::vector<float> expected = Llama3Factors(rope, dimensions);
  for (size_t i = 0; i < factors.size(); ++i) {
    // The file's come from float32 arithmetic.
    if (!(std::fabs(factors[i] - expected[i]) <= 1e-5 * expected[i])) return false;
  }
  return true;
}

// The rule whose factors these are.  The file does not say from how many
// positions it started: any number that gives every factor is the same rule.
std::optional<Json> FindLlama3(const std::vector<float>& factors, const GgufRotation& rotation) {
  const double factor = *std::max_element(factors.begin(), factors.end());
  if (!(factor > 1)) return std::nullopt;
  std::vector<int64_t> candidates = {8192};
  for (int64_t positions = 1; positions <= int64_t{1} << 24; positions *= 2) {
    candidates.push_back(positions);
  }
  for (const int64_t positions : candidates) {
    const RopeConfig rule = {.type = RopeType::kLlama3,
                             .theta = rotation.theta,
                             .factor = factor,
                             .low_freq_factor = kLowFrequency,
                             .high_freq_factor = kHighFrequency,
                             .original_max_position = positions};
    if (!IsLlama3(factors, rule, rotation.dimensions)) continue;
    return Json{{"rope_type", "llama3"},
                {"factor", factor},
                {"low_freq_factor", kLowFrequency},
                {"high_freq_factor", kHighFrequency},
                {"original_max_position_embeddings", positions}};
  }
  return std::nullopt;
}

Json LongRope(const std::vector<float>& long_context, const std::vector<float>& short_context,
              double attention_factor, int64_t original_positions) {
  return Json{{"rope_type", "longrope"},
              {"long_factor", long_context},
              {"short_factor", short_context},
              {"attention_factor", attention_factor},
              {"original_max_position_embeddings", original_positions}};
}

absl::Status CheckFactors(const GgufFields& fields, std::string_view tensor,
                          const std::vector<float>& factors, const GgufRotation& rotation) {
  const bool good = std::all_of(factors.begin(), factors.end(),
                                [](float factor) { return std::isfinite(factor) && factor > 0; });
  if (std::cmp_equal(factors.size(), rotation.dimensions / 2) && good) return absl::OkStatus();
  return Error(Reason::kTensorShapeInvalid, fmt::format("{}: tensor {}", fields.file(), tensor),
               fmt::format("it must hold {} finite numbers above 0", rotation.dimensions / 2),
               kMalformedRemedy);
}

class RopeScaling {
 public:
  RopeScaling(const GgufFields& fields, const GgufFamily& family, const GgufRotation& rotation,
              const GgufRopeFactors& factors)
      : fields_(fields), family_(family), rotation_(rotation), factors_(factors) {}

  absl::StatusOr<Json> Read() const {
    ASSIGN_OR_RETURN(const std::string type, Type());
    if (!factors_.always.empty()) return FromFactors(type);
    if (!factors_.long_context.empty() || !factors_.short_context.empty()) return FromTwo(type);
    if (type == "none") return Json(nullptr);
    if (type == "linear") return Linear();
    if (type == "yarn") return Yarn();
    return fields_.Unsupported(Key("type"), fmt::format("\"{}\" is not built", type));
  }

 private:
  std::string Key(std::string_view name) const {
    return GgufKeyOf(family_, fmt::format("rope.scaling.{}", name));
  }

  absl::StatusOr<std::string> Type() const {
    ASSIGN_OR_RETURN(const auto type, fields_.Text(Key("type")));
    if (type) return std::string(*type);
    ASSIGN_OR_RETURN(const double factor, Factor());
    return factor == 1 ? "none" : "linear";  // as llama.cpp takes it
  }

  // 1 where it is not given; an older key says the same.
  absl::StatusOr<double> Factor() const {
    ASSIGN_OR_RETURN(auto factor, fields_.Real(Key("factor")));
    if (!factor) {
      ASSIGN_OR_RETURN(factor, fields_.Real(GgufKeyOf(family_, "rope.scale_linear")));
    }
    const double value = factor.value_or(0) == 0 ? 1 : *factor;
    if (value < 0) return fields_.Invalid(Key("factor"), "must be above 0");
    return value;
  }

  absl::StatusOr<int64_t> OriginalPositions() const {
    ASSIGN_OR_RETURN(const auto positions, fields_.Integer(Key("original_context_length")));
    return positions.value_or(0) > 0 ? *positions : rotation_.max_positions;
  }

  absl::Status RefuseBeside(const std::string& type) const {
    if (type == "none" || type == "longrope") return absl::OkStatus();
    return fields_.Unsupported(Key("type"),
                               fmt::format("\"{}\" beside factors is not built", type));
  }

  absl::StatusOr<Json> FromFactors(const std::string& type) const {
    RETURN_IF_ERROR(RefuseBeside(type));
    RETURN_IF_ERROR(CheckFactors(fields_, "rope_freqs.weight", factors_.always, rotation_));
    const bool scaled = std::any_of(factors_.always.begin(), factors_.always.end(),
                                    [](float factor) { return factor != 1; });
    if (!scaled) return Json(nullptr);
    if (auto rule = FindLlama3(factors_.always, rotation_)) return *std::move(rule);
    ASSIGN_OR_RETURN(const int64_t positions, OriginalPositions());
    return LongRope(factors_.always, factors_.always, 1, positions);
  }

  absl::StatusOr<Json> FromTwo(const std::string& type) const {
    RETURN_IF_ERROR(RefuseBeside(type));
    RETURN_IF_ERROR(
        CheckFactors(fields_, "rope_factors_long.weight", factors_.long_context, rotation_));
    RETURN_IF_ERROR(
        CheckFactors(fields_, "rope_factors_short.weight", factors_.short_context, rotation_));
    ASSIGN_OR_RETURN(const auto attention, fields_.Real(Key("attn_factor")));
    ASSIGN_OR_RETURN(const int64_t positions, OriginalPositions());
    return LongRope(factors_.long_context, factors_.short_context, attention.value_or(1),
                    positions);
  }

  absl::StatusOr<Json> Linear() const {
    ASSIGN_OR_RETURN(const double factor, Factor());
    if (factor == 1) return Json(nullptr);
    return Json{{"rope_type", "linear"}, {"factor", factor}};
  }

  // B. Peng et al., 2023, https://arxiv.org/abs/2309.00071
  absl::StatusOr<Json> Yarn() const {
    for (const char* name : {"attn_factor", "yarn_ext_factor", "yarn_attn_factor"}) {
      ASSIGN_OR_RETURN(const auto value, fields_.Quantity(Key(name)));
      if (value && *value != 1) return fields_.Unsupported(Key(name), "other than 1 is not built");
    }
    ASSIGN_OR_RETURN(const double factor, Factor());
    ASSIGN_OR_RETURN(const int64_t positions, OriginalPositions());
    Json yarn = {
        {"rope_type", "yarn"}, {"factor", factor}, {"original_max_position_embeddings", positions}};
    ASSIGN_OR_RETURN(const auto fast, fields_.Real(Key("yarn_beta_fast")));
    if (fast) yarn["beta_fast"] = *fast;
    ASSIGN_OR_RETURN(const auto slow, fields_.Real(Key("yarn_beta_slow")));
    if (slow) yarn["beta_slow"] = *slow;
    return yarn;
  }

  const GgufFields& fields_;
  const GgufFamily& family_;
  const GgufRotation& rotation_;
  const GgufRopeFactors& factors_;
};

}  // namespace

RopeDivisors RopeDivisorsOf(const RopeConfig& rope, int64_t dimensions) {
  if (rope.type == RopeType::kLongRope) {
    return {{rope.short_factor.begin(), rope.short_factor.end()},
            {rope.long_factor.begin(), rope.long_factor.end()}};
  }
  const std::vector<float> factors =
      rope.type == RopeType::kLlama3 ? Llama3Factors(rope, dimensions)
                                     : std::vector<float>(static_cast<size_t>(dimensions / 2), 1);
  return {factors, factors};
}

absl::StatusOr<Json> GgufRopeScaling(const GgufFields& fields, const GgufFamily& family,
                                     const GgufRotation& rotation, const GgufRopeFactors& factors) {
  return RopeScaling(fields, family, rotation, factors).Read();
}

}  // namespace linchpin
