// The paper's scheme: a matrix cut into blocks, each clipped and rounded on a
// grid of its own, as a reader of the dequantized weights sees it.
//
// Per block: clip to mean|w| + z std|w| (unbiased), then asymmetric min-max
// round-to-nearest with 2^N - 1 steps, in float32.  Blocks are runs of
// consecutive elements in row-major order (what the authors measured), or true
// tiles; where they do not divide a matrix the last ones are smaller.
// M. Yu et al., 2024, https://arxiv.org/abs/2411.07191, section 5.2
#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "quantize/group_encoder.h"

namespace linchpin {

// Of one matrix: all rows are measured, in any order but one at a time, then
// rounded.  Rounding is thread-safe.
class ClippedBlocks {
 public:
  ClippedBlocks(const BlockOptions& options, int64_t rows, int64_t columns);

  // Takes in whole rows from `first_row` on but for the elements `held_out`,
  // whose rows count from there.
  void Measure(int64_t first_row, absl::Span<const float> weights,
               absl::Span<const PinnedElement> held_out = {});

  // Rounds whole rows in place.  The error counts what clipping lost, too;
  // nothing is done where a weight is not finite.
  EncodeError Round(int64_t first_row, absl::Span<float> weights) const;

 private:
  struct Block {
    int64_t count = 0;
    double sum = 0;      // of |w|
    double squares = 0;  // of w^2
    float low = 0;
    float high = 0;
  };
  struct Grid {
    float low = 0;
    float high = 0;
    float step = 0;
  };

  // Calls `visit` with each piece of rows that lies in one block: the block's
  // number, the piece's first element and its length.
  template <typename Visit>
  void ForEachPiece(int64_t first_row, int64_t count, Visit visit) const;
  Grid GridOf(const Block& block) const;

  const BlockOptions options_;
  const int64_t columns_;
  std::vector<Block> blocks_;
};

}  // namespace linchpin
