#include "forward/libtorch/rotary.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

namespace linchpin {
namespace {

// theta^(2i / rotated): the wave of pair i advances by its inverse per position.
using Periods = std::vector<double>;

Periods BasePeriods(double theta, int64_t rotated) {
  Periods periods(static_cast<size_t>(rotated / 2));
  for (size_t i = 0; i < periods.size(); ++i) {
    periods[i] = std::pow(theta, 2.0 * static_cast<double>(i) / static_cast<double>(rotated));
  }
  return periods;
}

// A larger theta beyond the positions that the model was trained on.
Periods DynamicPeriods(const RopeConfig& config, int64_t rotated, int64_t positions) {
  const double stretch = static_cast<double>(std::max(positions, config.original_max_position)) /
                         static_cast<double>(config.original_max_position);
  const double dim = static_cast<double>(rotated);
  const double grown = config.factor * stretch - (config.factor - 1);
  return BasePeriods(config.theta * std::pow(grown, dim / (dim - 2)), rotated);
}

// Llama 3: long waves are slowed by `factor`, short ones kept, those between
// blended linearly in original / wavelength.
double SlowLlama3(double period, const RopeConfig& config) {
  const double original = static_cast<double>(config.original_max_position);
  const double wavelength = 2 * std::numbers::pi * period;
  if (wavelength > original / config.low_freq_factor) return period * config.factor;
  if (wavelength < original / config.high_freq_factor) return period;
  const double smooth = (original / wavelength - config.low_freq_factor) /
                        (config.high_freq_factor - config.low_freq_factor);
  return 1 / ((1 - smooth) / (period * config.factor) + smooth / period);
}

// YaRN: pairs that turn more than beta_fast times within the original context
// are kept, those that turn less than beta_slow times slowed by `factor`.
void StretchYarn(const RopeConfig& config, int64_t rotated, Periods& periods) {
  const double dim = static_cast<double>(rotated);
  const auto pair_of = [&](double rotations) {
    return dim *
           std::log(static_cast<double>(config.original_max_position) /
                    (rotations * 2 * std::numbers::pi)) /
           (2 * std::log(config.theta));
  };
  double low = pair_of(config.beta_fast);
  double high = pair_of(config.beta_slow);
  if (config.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, dim - 1);
  if (low == high) high += 0.001;
  for (size_t i = 0; i < periods.size(); ++i) {
    const double slowed = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    periods[i] = 1 / (slowed / (config.factor * periods[i]) + (1 - slowed) / periods[i]);
  }
}

Periods StretchedPeriods(const RopeConfig& config, int64_t rotated, int64_t positions) {
  if (config.type == RopeType::kDynamic) return DynamicPeriods(config, rotated, positions);
  Periods periods = BasePeriods(config.theta, rotated);
  if (config.type == RopeType::kYarn) StretchYarn(config, rotated, periods);
  const auto& divisors =
      positions > config.original_max_position ? config.long_factor : config.short_factor;
  for (size_t i = 0; i < periods.size(); ++i) {
    if (config.type == RopeType::kLinear) periods[i] *= config.factor;
    if (config.type == RopeType::kLlama3) periods[i] = SlowLlama3(periods[i], config);
    if (config.type == RopeType::kLongRope) periods[i] *= divisors[i];
  }
  return periods;
}

}  // namespace

RotaryTable MakeRotaryTable(const RopeConfig& config, int64_t head_dim, int64_t positions) {
  const auto rotated = static_cast<int64_t>(static_cast<double>(head_dim) * config.partial);
  std::vector<float> frequencies;
  for (const double period : StretchedPeriods(config, rotated, positions)) {
    frequencies.push_back(static_cast<float>(1 / period));
  }
  const auto pairs = static_cast<int64_t>(frequencies.size());
  const at::Tensor angles = at::outer(at::arange(positions, at::kFloat),
                                      at::from_blob(frequencies.data(), {pairs}, at::kFloat));
  const at::Tensor both = at::cat({angles, angles}, -1);
  return {both.cos() * config.attention_factor, both.sin() * config.attention_factor};
}

at::Tensor Rotate(const at::Tensor& x, const RotaryTable& table) {
  const int64_t rotated = table.cosine.size(-1);
  const int64_t half = rotated / 2;
  const at::Tensor part = x.narrow(-1, 0, rotated);
  const at::Tensor turned = at::cat({-part.narrow(-1, half, half), part.narrow(-1, 0, half)}, -1);
  const at::Tensor result = part * table.cosine + turned * table.sine;
  if (rotated == x.size(-1)) return result;
  return at::cat({result, x.narrow(-1, rotated, x.size(-1) - rotated)}, -1);
}

}  // namespace linchpin
