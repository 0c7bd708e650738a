// Bootstrap interval of a perplexity ratio.
#pragma once

#include <vector>

namespace linchpin {

struct RatioEstimate {
  double ratio = 1;  // exp(mean(changed - base))
  double low = 1;    // 2.5 % quantile over resampled tokens
  double high = 1;   // 97.5 %
};

// `base` and `changed` are losses in nats of the same tokens, in order.
// Deterministic: 1,000 resamples from a fixed seed (Efron and Tibshirani, 1993).
RatioEstimate EstimateRatio(const std::vector<float>& base, const std::vector<float>& changed);

}  // namespace linchpin
