#include "quantize/super_block.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "quantize/batch_kernel.h"
#include "tensor/float16.h"

namespace linchpin {
namespace {

constexpr int kRounds = 2;  // of solving for the block's scale and trying neighbours again
constexpr int kGroups = 8;  // whose errors are added up together: an affine super block's

int Nearest(float value, float step, int low, int high) {
  if (step == 0) return std::clamp(0, low, high);
  return static_cast<int>(
      std::nearbyint(std::clamp(value / step, static_cast<float>(low), static_cast<float>(high))));
}

double SumOf(const float* groups) {
  double sum = 0;
  for (int g = 0; g < kGroups; ++g) sum += groups[g];
  return sum;
}

void AddTo(BlockError& total, const BatchError& error, int first) {
  BlockError sum{0, SumOf(error.sum_squares + first)};
  for (int g = first; g < first + kGroups; ++g) {
    sum.max_abs = std::max<double>(sum.max_abs, error.max_abs[g]);
  }
  total.Add(sum);
}

constexpr int kMaxMultiple = 63;
constexpr int64_t kAffineLength = kSuperBlock / kGroups;
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
    for (int g = 0; g < kBatch; ++g) {
      grid.scale[g] = FromF16(scale_bits[g / kGroups]) * static_cast<float>(scales[g]);
      grid.offset[g] = -(FromF16(offset_bits[g / kGroups]) * static_cast<float>(offsets[g]));
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
  std::array<float, kBatch * kAffineLength> codes;
  RoundBatch(batch, multiples.Grid(), 0, high, codes.data());
  for (int block = 0; block < kAffineTogether; ++block) {
    double aa = 0, ab = 0, bb = 0, ax = 0, bx = 0;
    for (int i = 0; i < kSuperBlock; ++i) {
      const int g = block * kGroups + i % kGroups;
      const int at = i / kGroups * kBatch + g;
      const double weight = batch.weights[at];
      const double a = static_cast<double>(multiples.scales[g]) * codes[at];
      const double b = -multiples.offsets[g];
      aa += weight * a * a;
      ab += weight * a * b;
      bb += weight * b * b;
      ax += weight * a * batch.values[at];
      bx += weight * b * batch.values[at];
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

constexpr float kSignedLow = -32;
constexpr int64_t kSignedLength = kSuperBlock / kBatch;

struct SignedMultiples {
  uint16_t scale_bits = 0;
  int scales[kBatch] = {};
  float errors[kBatch] = {};

  BatchGrid Grid() const {
    BatchGrid grid;
    for (int g = 0; g < kBatch; ++g) {
      grid.scale[g] = FromF16(scale_bits) * static_cast<float>(scales[g]);
    }
    return grid;
  }
  double Error() const { return SumOf(errors) + SumOf(errors + kGroups); }
};

void TryNeighbours(const Batch& batch, SignedMultiples& best) {
  WeighErrors(batch, best.Grid(), kSignedLow, -kSignedLow - 1, best.errors);
  const SignedMultiples start = best;
  for (const int move : {-1, 1}) {
    SignedMultiples moved = start;
    for (int& scale : moved.scales) scale = std::clamp(scale + move, -128, 127);
    WeighErrors(batch, moved.Grid(), kSignedLow, -kSignedLow - 1, moved.errors);
    for (int g = 0; g < kBatch; ++g) {
      if (!(moved.errors[g] < best.errors[g])) continue;
      best.scales[g] = moved.scales[g];
      best.errors[g] = moved.errors[g];
    }
  }
}

double Solve(const Batch& batch, const SignedMultiples& multiples) {
  std::array<float, kSuperBlock> codes;
  RoundBatch(batch, multiples.Grid(), kSignedLow, -kSignedLow - 1, codes.data());
  double aa = 0, ax = 0;
  for (int i = 0; i < kSuperBlock; ++i) {  // half of the groups after the other
    const int g = i / (kSuperBlock / 2) * kGroups + i % kGroups;
    const int at = i / kGroups % kSignedLength * kBatch + g;
    const double a = static_cast<double>(multiples.scales[g]) * codes[at];
    aa += batch.weights[at] * a * a;
    ax += batch.weights[at] * a * batch.values[at];
  }
  return aa == 0 ? 0 : ax / aa;
}

SignedMultiples SearchSigned(const Batch& batch) {
  const BatchGrid grid = FitSymmetric(batch, kSignedLow);
  const float largest =
      *std::max_element(std::begin(grid.scale), std::end(grid.scale),
                        [](float a, float b) { return std::fabs(a) < std::fabs(b); });
  SignedMultiples best;
  best.scale_bits = ClampedHalf(largest / -128);
  for (int g = 0; g < kBatch; ++g) {
    best.scales[g] = Nearest(grid.scale[g], FromF16(best.scale_bits), -128, 127);
  }
  TryNeighbours(batch, best);
  for (int round = 0; round < kRounds; ++round) {
    SignedMultiples next = best;
    next.scale_bits = ClampedHalf(static_cast<float>(Solve(batch, best)));
    TryNeighbours(batch, next);
    if (!(next.Error() < best.Error())) break;
    best = next;
  }
  return best;
}

}  // namespace

uint16_t ClampedHalf(float value) { return ToF16(std::clamp(value, -65504.0F, 65504.0F)); }

void EncodeSuperBlocks(const float* values, const float* weights, int bits, int count,
                       AffineSuperBlock* blocks, BlockError& total) {
  std::array<float, kAffineTogether * kSuperBlock> turned_values, turned_weights, codes;
  std::array<float, kAffineTogether* kSuperBlock> padded = {};
  const auto turn = [&](const float* from, float* to) {
    if (count == kAffineTogether) return TurnIntoBatch(from, kAffineLength, to);
    std::copy_n(from, kSuperBlock, padded.begin());
    TurnIntoBatch(padded.data(), kAffineLength, to);
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
    for (int i = 0; i < kSuperBlock; ++i) {
      block.codes[i] =
          static_cast<uint8_t>(codes[i % kAffineLength * kBatch + b * kGroups + i / kAffineLength]);
    }
    AddTo(total, error, b * kGroups);
  }
}

void EncodeSuperBlock(const float* values, const float* weights, SignedSuperBlock& block,
                      BlockError& total) {
  std::array<float, kSuperBlock> turned_values, turned_weights, codes;
  TurnIntoBatch(values, kSignedLength, turned_values.data());
  TurnIntoBatch(weights, kSignedLength, turned_weights.data());
  const Batch batch{turned_values.data(), turned_weights.data(), kSignedLength};
  const SignedMultiples best = SearchSigned(batch);
  block.scale = best.scale_bits;
  for (int g = 0; g < kBatch; ++g) block.scales[g] = static_cast<int8_t>(best.scales[g]);
  const BatchError error =
      RoundBatch(batch, best.Grid(), kSignedLow, -kSignedLow - 1, codes.data());
  for (int i = 0; i < kSuperBlock; ++i) {
    block.codes[i] =
        static_cast<uint8_t>(codes[i % kSignedLength * kBatch + i / kSignedLength] - kSignedLow);
  }
  // Its error is that of both halves of its groups.
  BlockError lost;
  AddTo(lost, error, 0);
  AddTo(lost, error, kGroups);
  total.Add(lost);
}

}  // namespace linchpin
