// What a down_proj output at one (token, channel) is a sum of.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "detect/trace.h"
#include "forward/forward_pass.h"

namespace linchpin {

// One product c = routing weight x X[token, column] x W[row, column].
struct Contribution {
  int expert = kNoExpert;
  InputElement input;
  int input_rank = 0;  // 0 = the token's largest
  float weight = 0;
  float routed = 1;  // how much of the output the layer adds
  float output = 0;  // of its down_proj at (token, row)
  float share = 0;   // of the sum over all down_projs; signed
};

// What the down_projs of a layer give at (token, channel), before any norm.
struct Products {
  std::vector<Contribution> largest;  // by falling share
  float total = 0;
  float largest_total = 0;           // |total| of the token where it is largest
  float bias = 0;                    // its part of the total
  std::vector<float> token_outputs;  // the total of every channel
};

// Of a layer's trace that ran with `edits`.
absl::StatusOr<Products> ProductsOf(const ForwardPass& pass, int layer, const LayerTrace& trace,
                                    absl::Span<const DownProjEdit> edits, int64_t token,
                                    int64_t channel);

// The largest |total| of any token at `channel`.
float LargestTotal(const LayerTrace& trace, int64_t channel);

}  // namespace linchpin
