#include <algorithm>
#include <array>
#include <cmath>

#include "quantize/super_block.h"
#include "quantize/super_block_groups.h"
#include "tensor/float16.h"

namespace linchpin {
namespace {

constexpr float kSignedLow = -32;
constexpr int64_t kSignedLength = kSuperBlock / kBatch;

struct SignedMultiples {
  uint16_t scale_bits = 0;
  int scales[kBatch] = {};
  float errors[kBatch] = {};

  BatchGrid Grid() const {
    BatchGrid grid;
    const float scale = FromF16(scale_bits);
    for (int g = 0; g < kBatch; ++g) grid.scale[g] = scale * static_cast<float>(scales[g]);
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
  alignas(kBatchAlignment) std::array<float, kSuperBlock> codes;
  RoundBatch(batch, multiples.Grid(), kSignedLow, -kSignedLow - 1, codes.data());
  double aa = 0, ax = 0;
  for (const int64_t first : {0, kGroups}) {  // half of the groups after the other
    for (int64_t i = 0; i < kSignedLength; ++i) {
      for (int64_t g = first; g < first + kGroups; ++g) {
        const int64_t at = i * kBatch + g;
        const double a = static_cast<double>(multiples.scales[g]) * codes[at];
        aa += batch.weights[at] * a * a;
        ax += batch.weights[at] * a * batch.values[at];
      }
    }
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

void EncodeSuperBlock(const float* values, const float* weights, SignedSuperBlock& block,
                      BlockError& total) {
  alignas(kBatchAlignment) std::array<float, kSuperBlock> turned_values, turned_weights, codes;
  StandSideBySide(values, kSignedLength, turned_values.data());
  StandSideBySide(weights, kSignedLength, turned_weights.data());
  const Batch batch{turned_values.data(), turned_weights.data(), kSignedLength};
  const SignedMultiples best = SearchSigned(batch);
  block.scale = best.scale_bits;
  for (int g = 0; g < kBatch; ++g) block.scales[g] = static_cast<int8_t>(best.scales[g]);
  const BatchError error =
      RoundBatch(batch, best.Grid(), kSignedLow, -kSignedLow - 1, codes.data());
  TakeCodes(codes.data(), kBatch, kSignedLength, kSignedLow, block.codes);
  // Its error is that of both halves of its groups.
  BlockError lost;
  AddTo(lost, error, 0);
  AddTo(lost, error, kGroups);
  total.Add(lost);
}

}  // namespace linchpin
