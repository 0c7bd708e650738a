// What compressed-tensors stores in place of a weight [N, K] with prefix = module name.
//
// Packed codes: `weight_packed` I32 [N, K*bits/32], `weight_scale` [N, groups],
// `weight_zero_point` I32 [N*bits/32, groups] (asymmetric; packed along dimension
// 0), `weight_shape` I64 [2].  One code per byte: `weight` I8 or F8_E4M3 [N, K],
// `weight_scale` [N, 1].  https://github.com/vllm-project/compressed-tensors
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "quantize/plan.h"
#include "tensor/tensor_info.h"

namespace linchpin {

// Of a quantized row, in the order codes, scales, zero points, shape.
std::vector<TensorInfo> PackedTensors(const PlanRow& row);

// Zero points of whole rows, [rows, groups], as words along dimension 0: word
// (r, c) holds rows 8r .. 8r + 7 of group c, row 8r lowest, for 4 bits.
std::vector<std::byte> PackZeroPoints(absl::Span<const int8_t> zeros, int64_t groups, int bits);

// Why a scheme cannot hold a matrix of this shape; empty if it can.
std::string PackingObstacle(const SchemeTraits& scheme, bool asymmetric,
                            const std::vector<int64_t>& shape);

}  // namespace linchpin
