#include "quantize/super_block.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "quantize/octet_kernel.h"
#include "tensor/float16.h"

namespace linchpin {
namespace {

constexpr int kRounds = 2;  // of solving for the block's scale and trying neighbours again

// `length` x 8 elements that lie group by group, lane by lane.
struct OctetData {
  OctetData(const float* group_values, const float* group_weights, int64_t group_length)
      : length(group_length) {
    TurnIntoOctet(group_values, length, values.data());
    TurnIntoOctet(group_weights, length, weights.data());
  }

  Octet View() const { return {values.data(), weights.data(), length}; }

  int64_t length;
  std::array<float, kSuperBlock> values;
  std::array<float, kSuperBlock> weights;
};

int Nearest(float value, float step, int low, int high) {
  if (step == 0) return std::clamp(0, low, high);
  return static_cast<int>(
      std::nearbyint(std::clamp(value / step, static_cast<float>(low), static_cast<float>(high))));
}

double SumOf(const float (&lanes)[kOctet]) {
  double sum = 0;
  for (const float lane : lanes) sum += lane;
  return sum;
}

void AddTo(BlockError& total, const OctetError& error) {
  total.sum_squares += SumOf(error.sum_squares);
  for (const float worst : error.max_abs) total.max_abs = std::max<double>(total.max_abs, worst);
}

// The scales of eight groups as multiples of the block's.
struct AffineMultiples {
  uint16_t scale_bits = 0;
  uint16_t offset_bits = 0;
  int scales[kOctet] = {};
  int offsets[kOctet] = {};
  float errors[kOctet] = {};

  OctetGrid Grid() const {
    OctetGrid grid;
    for (int g = 0; g < kOctet; ++g) {
      grid.scale[g] = FromF16(scale_bits) * static_cast<float>(scales[g]);
      grid.offset[g] = -(FromF16(offset_bits) * static_cast<float>(offsets[g]));
    }
    return grid;
  }
};

constexpr int kMaxMultiple = 63;

AffineMultiples MultiplesOf(const OctetGrid& grid, float scale, float offset) {
  AffineMultiples multiples;
  multiples.scale_bits = ClampedHalf(scale);
  multiples.offset_bits = ClampedHalf(offset);
  for (int g = 0; g < kOctet; ++g) {
    multiples.scales[g] = Nearest(grid.scale[g], FromF16(multiples.scale_bits), 0, kMaxMultiple);
    multiples.offsets[g] =
        Nearest(-grid.offset[g], FromF16(multiples.offset_bits), 0, kMaxMultiple);
  }
  return multiples;
}

// Moves each group to the best of its multiples' neighbours.
void TryNeighbours(const Octet& octet, float high, AffineMultiples& best) {
  WeighErrors(octet, best.Grid(), 0, high, best.errors);
  const AffineMultiples start = best;
  for (int move = 0; move < 9; ++move) {
    if (move == 4) continue;  // none
    AffineMultiples moved = start;
    for (int g = 0; g < kOctet; ++g) {
      moved.scales[g] = std::clamp(start.scales[g] + move / 3 - 1, 0, kMaxMultiple);
      moved.offsets[g] = std::clamp(start.offsets[g] + move % 3 - 1, 0, kMaxMultiple);
    }
    WeighErrors(octet, moved.Grid(), 0, high, moved.errors);
    for (int g = 0; g < kOctet; ++g) {
      if (!(moved.errors[g] < best.errors[g])) continue;
      best.scales[g] = moved.scales[g];
      best.offsets[g] = moved.offsets[g];
      best.errors[g] = moved.errors[g];
    }
  }
}

struct BlockScale {
  double scale = 0;
  double offset = 0;
};

// The block's numbers of least squares for these multiples and their codes.
BlockScale Solve(const Octet& octet, float high, const AffineMultiples& multiples) {
  std::array<float, kSuperBlock> codes;
  RoundOctet(octet, multiples.Grid(), 0, high, codes.data());
  double aa = 0, ab = 0, bb = 0, ax = 0, bx = 0;
  for (int i = 0; i < kSuperBlock; ++i) {
    const int g = i % kOctet;
    const double weight = octet.weights[i];
    const double a = static_cast<double>(multiples.scales[g]) * codes[i];
    const double b = -multiples.offsets[g];
    aa += weight * a * a;
    ab += weight * a * b;
    bb += weight * b * b;
    ax += weight * a * octet.values[i];
    bx += weight * b * octet.values[i];
  }
  const double determinant = aa * bb - ab * ab;
  if (bb == 0) return {aa == 0 ? 0 : ax / aa, 0};
  if (!(determinant > 0)) return {FromF16(multiples.scale_bits), FromF16(multiples.offset_bits)};
  return {(ax * bb - bx * ab) / determinant, (bx * aa - ax * ab) / determinant};
}

AffineMultiples SearchAffine(const Octet& octet, float high) {
  const OctetGrid grid = FitAffine(octet, high, /*offset_below_zero=*/true);
  const float scale = *std::max_element(std::begin(grid.scale), std::end(grid.scale));
  const float offset = -*std::min_element(std::begin(grid.offset), std::end(grid.offset));
  AffineMultiples best = MultiplesOf(grid, scale / kMaxMultiple, offset / kMaxMultiple);
  TryNeighbours(octet, high, best);
  for (int round = 0; round < kRounds; ++round) {
    const BlockScale solved = Solve(octet, high, best);
    AffineMultiples next = best;
    next.scale_bits = ClampedHalf(std::max(0.0F, static_cast<float>(solved.scale)));
    next.offset_bits = ClampedHalf(std::max(0.0F, static_cast<float>(solved.offset)));
    TryNeighbours(octet, high, next);
    if (!(SumOf(next.errors) < SumOf(best.errors))) break;
    best = next;
  }
  return best;
}

constexpr float kSignedLow = -32;
constexpr int kSignedGroups = 16;
constexpr int kSignedOctets = kSignedGroups / kOctet;

struct SignedMultiples {
  uint16_t scale_bits = 0;
  int scales[kSignedGroups] = {};
  float errors[kSignedOctets][kOctet] = {};

  OctetGrid Grid(int octet) const {
    OctetGrid grid;
    for (int g = 0; g < kOctet; ++g) {
      grid.scale[g] = FromF16(scale_bits) * static_cast<float>(scales[octet * kOctet + g]);
    }
    return grid;
  }
  double Error() const { return SumOf(errors[0]) + SumOf(errors[1]); }
};

using SignedOctets = std::array<OctetData, kSignedOctets>;

void TryNeighbours(const SignedOctets& octets, SignedMultiples& best) {
  for (int o = 0; o < kSignedOctets; ++o) {
    const Octet octet = octets[o].View();
    WeighErrors(octet, best.Grid(o), kSignedLow, -kSignedLow - 1, best.errors[o]);
    const SignedMultiples start = best;
    for (const int move : {-1, 1}) {
      SignedMultiples moved = start;
      for (int& scale : moved.scales) scale = std::clamp(scale + move, -128, 127);
      WeighErrors(octet, moved.Grid(o), kSignedLow, -kSignedLow - 1, moved.errors[o]);
      for (int g = 0; g < kOctet; ++g) {
        if (!(moved.errors[o][g] < best.errors[o][g])) continue;
        best.scales[o * kOctet + g] = moved.scales[o * kOctet + g];
        best.errors[o][g] = moved.errors[o][g];
      }
    }
  }
}

double Solve(const SignedOctets& octets, const SignedMultiples& multiples) {
  double aa = 0, ax = 0;
  for (int o = 0; o < kSignedOctets; ++o) {
    std::array<float, kSuperBlock / kSignedOctets> codes;
    RoundOctet(octets[o].View(), multiples.Grid(o), kSignedLow, -kSignedLow - 1, codes.data());
    for (size_t i = 0; i < codes.size(); ++i) {
      const double a =
          static_cast<double>(multiples.scales[o * kOctet + static_cast<int>(i) % kOctet]) *
          codes[i];
      aa += octets[o].weights[i] * a * a;
      ax += octets[o].weights[i] * a * octets[o].values[i];
    }
  }
  return aa == 0 ? 0 : ax / aa;
}

SignedMultiples SearchSigned(const SignedOctets& octets) {
  std::array<float, kSignedGroups> scales;
  for (int o = 0; o < kSignedOctets; ++o) {
    const OctetGrid grid = FitSymmetric(octets[o].View(), kSignedLow);
    std::copy_n(grid.scale, kOctet, scales.begin() + o * kOctet);
  }
  const float largest = *std::max_element(
      scales.begin(), scales.end(), [](float a, float b) { return std::fabs(a) < std::fabs(b); });
  SignedMultiples best;
  best.scale_bits = ClampedHalf(largest / -128);
  for (int g = 0; g < kSignedGroups; ++g) {
    best.scales[g] = Nearest(scales[g], FromF16(best.scale_bits), -128, 127);
  }
  TryNeighbours(octets, best);
  for (int round = 0; round < kRounds; ++round) {
    SignedMultiples next = best;
    next.scale_bits = ClampedHalf(static_cast<float>(Solve(octets, best)));
    TryNeighbours(octets, next);
    if (!(next.Error() < best.Error())) break;
    best = next;
  }
  return best;
}

}  // namespace

uint16_t ClampedHalf(float value) { return ToF16(std::clamp(value, -65504.0F, 65504.0F)); }

BlockError EncodeSuperBlock(const float* values, const float* weights, int bits,
                            AffineSuperBlock& block) {
  const OctetData data(values, weights, kSuperBlock / kOctet);
  const auto high = static_cast<float>((1 << bits) - 1);
  const AffineMultiples best = SearchAffine(data.View(), high);
  block.scale = best.scale_bits;
  block.offset = best.offset_bits;
  for (int g = 0; g < kOctet; ++g) {
    block.scales[g] = static_cast<uint8_t>(best.scales[g]);
    block.offsets[g] = static_cast<uint8_t>(best.offsets[g]);
  }
  std::array<float, kSuperBlock> codes;
  BlockError error;
  AddTo(error, RoundOctet(data.View(), best.Grid(), 0, high, codes.data()));
  for (int i = 0; i < kSuperBlock; ++i) {
    block.codes[i] = static_cast<uint8_t>(codes[i % data.length * kOctet + i / data.length]);
  }
  return error;
}

BlockError EncodeSuperBlock(const float* values, const float* weights, SignedSuperBlock& block) {
  constexpr int kHalf = kSuperBlock / kSignedOctets;
  constexpr int kLength = kHalf / kOctet;
  const SignedOctets octets = {OctetData(values, weights, kLength),
                               OctetData(values + kHalf, weights + kHalf, kLength)};
  const SignedMultiples best = SearchSigned(octets);
  block.scale = best.scale_bits;
  for (int g = 0; g < kSignedGroups; ++g) block.scales[g] = static_cast<int8_t>(best.scales[g]);
  BlockError error;
  for (int o = 0; o < kSignedOctets; ++o) {
    std::array<float, kHalf> codes;
    AddTo(error,
          RoundOctet(octets[o].View(), best.Grid(o), kSignedLow, -kSignedLow - 1, codes.data()));
    for (int i = 0; i < kHalf; ++i) {
      block.codes[o * kHalf + i] =
          static_cast<uint8_t>(codes[i % kLength * kOctet + i / kLength] - kSignedLow);
    }
  }
  return error;
}

}  // namespace linchpin
