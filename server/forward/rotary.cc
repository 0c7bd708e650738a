#include "forward/rotary.h"

#include <cmath>
#include <numbers>
#include <vector>

namespace linchpin {
namespace {

// One frequency under Llama 3's scaling: long waves are slowed by `factor`,
// short ones kept, those between blended linearly in original / wavelength.
float ScaleFrequency(float frequency, const Llama3RopeScaling& scaling) {
  const double original = static_cast<double>(scaling.original_max_position);
  const double wavelength = 2 * std::numbers::pi / frequency;
  if (wavelength > original / scaling.low_freq_factor) {
    return static_cast<float>(frequency / scaling.factor);
  }
  if (wavelength < original / scaling.high_freq_factor) return frequency;
  const double smooth = (original / wavelength - scaling.low_freq_factor) /
                        (scaling.high_freq_factor - scaling.low_freq_factor);
  return static_cast<float>((1 - smooth) * frequency / scaling.factor + smooth * frequency);
}

}  // namespace

RotaryTable MakeRotaryTable(const ModelConfig& config, int64_t positions) {
  const int64_t half = config.head_dim / 2;
  std::vector<float> frequencies(half);
  for (int64_t i = 0; i < half; ++i) {
    const double exponent = 2.0 * static_cast<double>(i) / static_cast<double>(config.head_dim);
    frequencies[i] = static_cast<float>(std::pow(config.rope_theta, -exponent));
    if (config.llama3_rope) frequencies[i] = ScaleFrequency(frequencies[i], *config.llama3_rope);
  }
  const at::Tensor angles = at::outer(at::arange(positions, at::kFloat),
                                      at::from_blob(frequencies.data(), {half}, at::kFloat));
  const at::Tensor both = at::cat({angles, angles}, -1);
  return {both.cos(), both.sin()};
}

at::Tensor Rotate(const at::Tensor& x, const RotaryTable& table) {
  const int64_t half = x.size(-1) / 2;
  const at::Tensor turned = at::cat({-x.narrow(-1, half, half), x.narrow(-1, 0, half)}, -1);
  return x * table.cosine + turned * table.sine;
}

}  // namespace linchpin
