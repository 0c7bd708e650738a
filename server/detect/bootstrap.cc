#include "detect/bootstrap.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <random>

namespace linchpin {

MeanEstimate EstimateMean(const std::vector<double>& values) {
  constexpr int kResamples = 1000;
  if (values.empty()) return {};
  const auto count = static_cast<double>(values.size());
  std::mt19937_64 random(20241111);
  std::vector<double> means;
  for (int i = 0; i < kResamples; ++i) {
    double resampled = 0;
    for (size_t j = 0; j < values.size(); ++j) resampled += values[random() % values.size()];
    means.push_back(resampled / count);
  }
  std::sort(means.begin(), means.end());
  return {std::accumulate(values.begin(), values.end(), 0.0) / count, means[kResamples / 40],
          means[kResamples - 1 - kResamples / 40]};
}

RatioEstimate EstimateRatio(const std::vector<float>& base, const std::vector<float>& changed) {
  std::vector<double> difference(base.size());
  for (size_t i = 0; i < base.size(); ++i) {
    difference[i] = static_cast<double>(changed[i]) - static_cast<double>(base[i]);
  }
  const MeanEstimate estimate = EstimateMean(difference);
  return {std::exp(estimate.mean), std::exp(estimate.low), std::exp(estimate.high)};
}

}  // namespace linchpin
