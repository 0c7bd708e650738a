// The pictures and the first table of the super weight paper (Yu et al.,
// arXiv 2411.07191), as data of any model: plain data, drawn by others.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace linchpin {

// Figures 3 and 4: the element of largest magnitude, signed, of one layer's
// activations on the prompt; `residual_without`: with all super weights zeroed.
struct StudyLayer {
  int layer = 0;
  float down_proj_input = 0;
  float down_proj_output = 0;
  float residual = 0;
  float residual_without = 0;
};

// The residual stream after each layer where a super activation stands, on the prompt.
struct StudyActivation {
  int64_t token = 0;
  int64_t channel = 0;
  std::vector<float> with;
  std::vector<float> without;  // with all super weights zeroed
};

// What a changed model makes of the windows, against the untouched one.
struct StudyQuality {
  double loss = 0;  // nats per predicted token
  double perplexity = 1;
  double perplexity_ratio = 1;
  double kl = 0;  // of its predictions from the untouched model's, nats per token
};

// Figure 6: all super weights multiplied by `scale`.
struct StudyScale {
  double scale = 1;
  StudyQuality quality;
};

// Figure 5: how likely one of the windows' most frequent tokens is as the next,
// mean over all positions.
struct StudyToken {
  int32_t id = 0;
  int64_t count = 0;               // in the windows
  double probability = 0;          // in the untouched model
  double probability_without = 0;  // with all super weights zeroed
};

// A row of table 1.
struct StudyRow {
  std::string name;    // "original", "super_weights_pruned", ...
  int64_t pruned = 0;  // weights zeroed
  StudyQuality quality;
};

struct Study {
  int windows = 0;
  int64_t tokens = 0;  // predicted tokens
  std::vector<StudyLayer> layers;
  std::vector<StudyActivation> activations;
  // Of a model without super weights: `rows` has the original and the pruned
  // outliers, and the two others nothing.
  std::vector<StudyScale> scales;
  std::vector<StudyToken> frequent;
  std::vector<StudyRow> rows;
};

}  // namespace linchpin
