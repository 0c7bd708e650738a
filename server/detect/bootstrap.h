// Bootstrap intervals of a mean and of a perplexity ratio.
#pragma once

#include <vector>

namespace linchpin {

struct MeanEstimate {
  double mean = 0;
  double low = 0;   // 2.5 % quantile over resampled values
  double high = 0;  // 97.5 %
};

// Deterministic: 1,000 resamples from a fixed seed (Efron and Tibshirani, 1993).
// No values: all 0.
MeanEstimate EstimateMean(const std::vector<double>& values);

struct RatioEstimate {
  double ratio = 1;  // exp(mean(changed - base))
  double low = 1;    // 2.5 % quantile over resampled tokens
  double high = 1;   // 97.5 %
};

// `base` and `changed` are losses in nats of the same tokens, in order.
RatioEstimate EstimateRatio(const std::vector<float>& base, const std::vector<float>& changed);

}  // namespace linchpin
