// Scales what layers read from a norm by powers of two, per channel, and the norm by
// their inverse: the same model, whose channels that matter get more of their groups'
// steps.
//
// AWQ's transformation (Lin et al., arXiv 2306.00978) without its search: the factor is the
// root mean square of the channel, over the geometric mean of all channels, to a power of 0.3,
// rounded to a power of two from 1/4 to 4 (docs/adr/0061).  A power of two changes no bit of a
// mantissa, so that nothing is lost beside what is rounded anyhow; only numbers at the ends of
// F16's range may lose bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "quantize/linear_layers.h"
#include "quantize/plan.h"
#include "tensor/dtype.h"
#include "tensor/importance.h"

namespace linchpin {

// Gives norms, and all the layers that read one, the statistics of the first of these, where
// it has any: all then have the same factors, also in processes that know their own alone.
void AddNorms(absl::Span<const NormedLayers> normed, Importance& importance);

// Marks what is to be scaled in `plan`, and notes how many norms: those whose layers are all
// quantized by importance and hold no super weight in a group of theirs.  `importance` as
// AddNorms left it, or null where it is not known yet.
void PlanEqualization(absl::Span<const NormedLayers> normed, const Importance* importance,
                      Plan& plan);

// Of every channel: a whole number from -2 to 2.  0 for all where all are zero.
std::vector<int> ExponentsOf(const InputStatistics& statistics);

// What the columns of a row's weights, or the elements of a norm, are multiplied by; empty
// where nothing is.
std::vector<float> FactorsOf(const PlanRow& row, const Importance* importance);

// Multiplies each of `rows` rows of factors.size() elements by them.
void ScaleColumns(DType dtype, absl::Span<const float> factors, int64_t rows, std::byte* weights);

}  // namespace linchpin
