// The search for scales and offsets, for eight groups of weights at once, one
// per lane; compiled once per instruction set (Google Highway).
//
// As no sum crosses lanes, every instruction set gives the same bytes.  What is
// minimized is the sum of weight x (value - what a reader gets)^2.  The search
// tries steps around the one that just spans a group and solves each for the
// least squares, as ggml's K types do (https://github.com/ggml-org/ggml), then
// rounds again to what was found.
#pragma once

#include <cstdint>

namespace linchpin {

inline constexpr int kOctet = 8;

// Element i of group g stands at [8 i + g]; finite, weights not negative.
struct Octet {
  const float* values = nullptr;
  const float* weights = nullptr;
  int64_t length = 0;  // at most 32
};

// Turns eight groups of `length` values, one behind the other, into an octet's order.
void TurnIntoOctet(const float* groups, int64_t length, float* octet);

// value = scale x code + offset.
struct OctetGrid {
  float scale[kOctet] = {};
  float offset[kOctet] = {};
};

// Codes [0, high].  With `offset_below_zero` no offset is above 0.
OctetGrid FitAffine(const Octet& octet, float high, bool offset_below_zero);

// Codes [low, -low - 1], no offset; a scale may be negative.
OctetGrid FitSymmetric(const Octet& octet, float low);

// Weighted squared error of each group, with every value on its nearest code in
// [low, high].
void WeighErrors(const Octet& octet, const OctetGrid& grid, float low, float high,
                 float errors[kOctet]);

struct OctetError {
  float max_abs[kOctet] = {};
  float sum_squares[kOctet] = {};  // not weighted
};

// These codes, in the octet's order.
OctetError RoundOctet(const Octet& octet, const OctetGrid& grid, float low, float high,
                      float* codes);

}  // namespace linchpin
