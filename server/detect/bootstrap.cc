#include "detect/bootstrap.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>

namespace linchpin {

RatioEstimate EstimateRatio(const std::vector<float>& base, const std::vector<float>& changed) {
  constexpr int kResamples = 1000;
  const size_t count = base.size();
  if (count == 0) return {};
  std::vector<double> difference(count);
  double sum = 0;
  for (size_t i = 0; i < count; ++i) {
    difference[i] = static_cast<double>(changed[i]) - static_cast<double>(base[i]);
    sum += difference[i];
  }
  std::mt19937_64 random(20241111);
  std::vector<double> means;
  for (int i = 0; i < kResamples; ++i) {
    double resampled = 0;
    for (size_t j = 0; j < count; ++j) resampled += difference[random() % count];
    means.push_back(resampled / static_cast<double>(count));
  }
  std::sort(means.begin(), means.end());
  return {std::exp(sum / static_cast<double>(count)), std::exp(means[kResamples / 40]),
          std::exp(means[kResamples - 1 - kResamples / 40])};
}

}  // namespace linchpin
