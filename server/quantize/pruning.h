// Makes weights zero and leaves the others as they are.
//
// By magnitude: of a matrix's n weights the round_half_even(sparsity x n) of least
// magnitude become zero; of equal ones those that come first, row by row.  2:4: of
// each four that follow one another along the input the two largest stay, of equal
// ones those that come first.  Super weights that are spared take no part in the
// first, where others become zero in their place, and count as the largest of
// their four in the second.  Exact comparisons and counts only: the same on every
// CPU and for any number of threads.
// S. Han et al., 2015, https://arxiv.org/abs/1506.02626; A. Mishra et al., 2021,
// https://arxiv.org/abs/2104.08378
#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "quantize/group_encoder.h"

namespace linchpin {

// Of one matrix: all rows are measured kPasses times, one slab at a time, then
// pruned.  Memory: two histograms of magnitudes and a number per row.  Pruning is
// thread-safe.
class MagnitudePruning {
 public:
  static constexpr int kPasses = 3;

  MagnitudePruning(double sparsity, int64_t rows, int64_t columns);

  // Takes in whole rows from `first_row` on but for the elements `spared`, whose
  // rows count from there.  Passes 0, 1 and 2, each over all rows.
  void Measure(int pass, int64_t first_row, absl::Span<const float> weights,
               absl::Span<const PinnedElement> spared);

  // Prunes whole rows in place.  The error is of what became zero; nothing is done
  // where a weight is not finite.
  EncodeError Prune(int64_t first_row, absl::Span<float> weights,
                    absl::Span<const PinnedElement> spared) const;

 private:
  void Narrow(int pass);

  const double sparsity_;
  const int64_t columns_;
  std::vector<int64_t> high_;  // by the upper half of the magnitude's bits
  std::vector<int64_t> low_;   // by the lower half, of those with the threshold's upper
  std::vector<int64_t> ties_;  // per row: weights as large as the threshold
  int pass_ = 0;
  int64_t left_ = 0;        // how many become zero of those not yet told apart
  uint32_t threshold_ = 0;  // magnitude bits: below it all become zero
};

// `columns`, a multiple of 4, are of a row.
EncodeError PruneTwoOfFour(int64_t columns, absl::Span<float> weights,
                           absl::Span<const PinnedElement> spared);

}  // namespace linchpin
