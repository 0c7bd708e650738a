#include <algorithm>
#include <array>

#include "quantize/super_block.h"
#include "quantize/super_block_groups.h"
#include "tensor/float16.h"

namespace linchpin {
namespace {

constexpr int kMaxMultiple = 63;
constexpr int64_t kAffineLength = kSuperBlock / kGroups;
constexpr int64_t kBatchValues = kBatch * kAffineLength;
static_assert(kAffineTogether * kGroups == kBatch);

// The scales of two blocks' groups as multiples of the blocks'.
struct AffineMultiples {
  uint16_t scale_bits[kAffineTogether] = {};
  uint16_t offset_bits[kAffineTogether] = {};
  int scales[kBatch] = {};
  int offsets[kBatch] = {};
  float errors[kBatch] = {};

  BatchGrid Grid() const {
    BatchGrid grid;
    for (int block = 0; block < kAffineTogether; ++block) {
      const float scale = FromF16(scale_bits[block]);
      const float offset = FromF16(offset_bits[block]);
      for (int g = block * kGroups; g < (block + 1) * kGroups; ++g) {
        grid.scale[g] = scale * static_cast<float>(scales[g]);
        grid.offset[g] = -(offset * static_cast<float>(offsets[g]));
      }
    }
    return grid;
  }
  double Error(int block) const { return SumOf(errors + block * kGroups); }
  void Take(int block, const AffineMultiples& other) {
    scale_bits[block] = other.scale_bits[block];
    offset_bits[block] = other.offset_bits[block];
    for (int g = block * kGroups; g < (block + 1) * kGroups; ++g) TakeGroup(g, other);
  }
  void TakeGroup(int g, const AffineMultiples& other) {
    scales[g] = other.scales[g];
    offsets[g] = other.offsets[g];
    errors[g] = other.errors[g];
  }
};

AffineMultiples MultiplesOf(const BatchGrid& grid) {
  AffineMultiples multiples;
  for (int block = 0; block < kAffineTogether; ++block) {
    const float* scales = grid.scale + block * kGroups;
    const float* offsets = grid.offset + block * kGroups;
    multiples.scale_bits[block] =
        ClampedHalf(*std::max_element(scales, scales + kGroups) / kMaxMultiple);
    multiples.offset_bits[block] =
        ClampedHalf(-*std::min_element(offsets, offsets + kGroups) / kMaxMultiple);
  }
  for (int g = 0; g < kBatch; ++g) {
    const float scale = FromF16(multiples.scale_bits[g / kGroups]);
    const float offset = FromF16(multiples.offset_bits[g / kGroups]);
    multiples.scales[g] = Nearest(grid.scale[g], scale, 0, kMaxMultiple);
    multiples.offsets[g] = Nearest(-grid.offset[g], offset, 0, kMaxMultiple);
  }
  return multiples;
}

// Moves each group to the best of its multiples' neighbours.
void TryNeighbours(const Batch& batch, float high, AffineMultiples& best) {
  WeighErrors(batch, best.Grid(), 0, high, best.errors);
  const AffineMultiples start = best;
  for (int move = 0; move < 9; ++move) {
    if (move == 4) continue;  // none
    AffineMultiples moved = start;
    for (int g = 0; g < kBatch; ++g) {
      moved.scales[g] = std::clamp(start.scales[g] + move / 3 - 1, 0, kMaxMultiple);
      moved.offsets[g] = std::clamp(start.offsets[g] + move % 3 - 1, 0, kMaxMultiple);
    }
    WeighErrors(batch, moved.Grid(), 0, high, moved.errors);
    for (int g = 0; g < kBatch; ++g) {
      if (moved.errors[g] < best.errors[g]) best.TakeGroup(g, moved);
    }
  }
}

// Solves for each block's numbers of least squares with these multiples and their codes.
void Solve(const Batch& batch, float high, AffineMultiples& multiples) {
  alignas(kBatchAlignment) std::array<float, kBatchValues> codes;
  RoundBatch(batch, multiples.Grid(), 0, high, codes.data());
  double scales[kBatch], offsets[kBatch];
  for (int g = 0; g < kBatch; ++g) {
    scales[g] = multiples.scales[g];
    offsets[g] = -multiples.offsets[g];
  }
  for (int block = 0; block < kAffineTogether; ++block) {
    double aa = 0, ab = 0, bb = 0, ax = 0, bx = 0;
    for (int64_t i = 0; i < kAffineLength; ++i) {
      for (int64_t g = block * kGroups; g < (block + 1) * kGroups; ++g) {
        const int64_t at = i * kBatch + g;
        const double weight = batch.weights[at];
        const double a = scales[g] * codes[at];
        const double b = offsets[g];
        aa += weight * a * a;
        ab += weight * a * b;
        bb += weight * b * b;
        ax += weight * a * batch.values[at];
        bx += weight * b * batch.values[at];
      }
    }
    const double determinant = aa * bb - ab * ab;
    if (bb != 0 && !(determinant > 0)) continue;
    const double scale = bb != 0 ? (ax * bb - bx * ab) / determinant : aa == 0 ? 0 : ax / aa;
    const double offset = bb != 0 ? (bx * aa - ax * ab) / determinant : 0;
    multiples.scale_bits[block] = ClampedHalf(std::max(0.0F, static_cast<float>(scale)));
    multiples.offset_bits[block] = ClampedHalf(std::max(0.0F, static_cast<float>(offset)));
  }
}

AffineMultiples SearchAffine(const Batch& batch, float high) {
  AffineMultiples best = MultiplesOf(FitAffine(batch, high, /*offset_below_zero=*/true));
  TryNeighbours(batch, high, best);
  bool better[kAffineTogether] = {true, true};
  for (int round = 0; round < kRounds && (better[0] || better[1]); ++round) {
    AffineMultiples next = best;
    Solve(batch, high, next);
    TryNeighbours(batch, high, next);
    for (int block = 0; block < kAffineTogether; ++block) {
      better[block] = better[block] && next.Error(block) < best.Error(block);
      if (better[block]) best.Take(block, next);
    }
  }
  return best;
}

}  // namespace

void EncodeSuperBlocks(const float* values, const float* weights, int bits, int count,
                       AffineSuperBlock* blocks, BlockError& total) {
  alignas(kBatchAlignment) std::array<float, kBatchValues> turned_values, turned_weights, codes;
  std::array<float, kBatchValues> padded = {};
  const auto turn = [&](const float* from, float* to) {
    if (count == kAffineTogether) return StandSideBySide(from, kAffineLength, to);
    std::copy_n(from, kSuperBlock, padded.begin());
    StandSideBySide(padded.data(), kAffineLength, to);
  };
  turn(values, turned_values.data());
  turn(weights, turned_weights.data());
  const Batch batch{turned_values.data(), turned_weights.data(), kAffineLength};
  const auto high = static_cast<float>((1 << bits) - 1);
  const AffineMultiples best = SearchAffine(batch, high);
  const BatchError error = RoundBatch(batch, best.Grid(), 0, high, codes.data());
  for (int b = 0; b < count; ++b) {
    AffineSuperBlock& block = blocks[b];
    block.scale = best.scale_bits[b];
    block.offset = best.offset_bits[b];
    for (int g = 0; g < kGroups; ++g) {
      block.scales[g] = static_cast<uint8_t>(best.scales[b * kGroups + g]);
      block.offsets[g] = static_cast<uint8_t>(best.offsets[b * kGroups + g]);
    }
    TakeCodes(codes.data() + b * kGroups, kGroups, kAffineLength, 0, block.codes);
    AddTo(total, error, b * kGroups);
  }
}

}  // namespace linchpin
