#include "quantize/block_encoder.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <vector>

#include "format/gguf_pack.h"
#include "quantize/block_kernel.h"
#include "quantize/octet_kernel.h"
#include "quantize/super_block.h"
#include "tensor/float16.h"

namespace linchpin {
namespace {

constexpr int kBlock = 32;

// One row, or a part of it that starts at a block.
struct Run {
  const float* values = nullptr;
  const float* importance = nullptr;  // null: none given
  const float* octets = nullptr;      // the same in the order of SideBySide
  int64_t count = 0;
  uint8_t* out = nullptr;
};

void AddTo(BlockError& total, const BlockError& next) {
  total.max_abs = std::max(total.max_abs, next.max_abs);
  total.sum_squares += next.sum_squares;
}

// How Q4_0, Q4_1, Q5_0 and Q5_1 are searched for and laid out.
struct SmallBlock {
  int bits = 4;
  bool affine = false;
};

void PackSmall(const SmallBlock& block, float scale, float offset, const uint8_t* codes,
               uint8_t* out) {
  PackHalf(ClampedHalf(scale), out);
  out += 2;
  if (block.affine) {
    PackHalf(ClampedHalf(offset), out);
    out += 2;
  }
  if (block.bits == 5) {
    PackFifthBits(codes, out);
    out += 4;
  }
  PackNibbles(codes, out);
}

constexpr int64_t kOctetValues = kOctet * kBlock;
using OctetValues = std::array<float, kOctetValues>;

// Up to eight blocks; those that there are not are zeros.
void SideBySide(const float* blocks, int64_t count, float* octet) {
  if (count == kOctetValues) return TurnIntoOctet(blocks, kBlock, octet);
  OctetValues padded = {};
  std::copy_n(blocks, count, padded.begin());
  TurnIntoOctet(padded.data(), kBlock, octet);
}

// All blocks of a row, octet after octet.
std::vector<float> SideBySide(const std::vector<float>& row) {
  const auto count = static_cast<int64_t>(row.size());
  std::vector<float> octets(
      static_cast<size_t>((count + kOctetValues - 1) / kOctetValues * kOctetValues));
  for (int64_t at = 0; at < count; at += kOctetValues) {
    SideBySide(row.data() + at, std::min(kOctetValues, count - at), octets.data() + at);
  }
  return octets;
}

// Up to eight blocks side by side.
BlockError SearchSmallOctet(const SmallBlock& block, int64_t bytes, const Run& run) {
  const auto blocks = static_cast<int>(run.count / kBlock);
  OctetValues values;
  SideBySide(run.values, run.count, values.data());
  const Octet octet{values.data(), run.octets, kBlock};
  const float low = block.affine ? 0.0F : -static_cast<float>(1 << (block.bits - 1));
  const float high = low + static_cast<float>((1 << block.bits) - 1);
  OctetGrid grid = block.affine ? FitAffine(octet, high, false) : FitSymmetric(octet, low);
  for (int g = 0; g < kOctet; ++g) {
    grid.scale[g] = FromF16(ClampedHalf(grid.scale[g]));
    grid.offset[g] = FromF16(ClampedHalf(grid.offset[g]));
  }
  OctetValues codes;
  const OctetError error = RoundOctet(octet, grid, low, high, codes.data());
  BlockError total;
  for (int g = 0; g < blocks; ++g) {
    std::array<uint8_t, kBlock> stored;
    for (int i = 0; i < kBlock; ++i) {
      stored[i] = static_cast<uint8_t>(codes[i * kOctet + g] - low);
    }
    PackSmall(block, grid.scale[g], grid.offset[g], stored.data(), run.out + g * bytes);
    AddTo(total, {error.max_abs[g], error.sum_squares[g]});
  }
  return total;
}

template <int bits, bool affine>
BlockError SearchSmall(const Run& run) {
  constexpr SmallBlock kSmall{bits, affine};
  constexpr int64_t kBytes = 2 + (affine ? 2 : 0) + (bits == 5 ? 4 : 0) + 16;
  BlockError total;
  for (int64_t at = 0; at < run.count; at += kOctetValues) {
    AddTo(total, SearchSmallOctet(
                     kSmall, kBytes,
                     {run.values + at, run.importance + at, run.octets + at,
                      std::min(kOctetValues, run.count - at), run.out + at / kBlock * kBytes}));
  }
  return total;
}

// Without importance an error counts as ggml's K types have it: in proportion to
// the weight's size over that of its group, or (Q6_K) to its square.
void DefaultWeights(const float* values, bool squares, float* weights) {
  if (squares) {
    std::transform(values, values + kSuperBlock, weights, [](float x) { return x * x; });
    return;
  }
  for (int first = 0; first < kSuperBlock; first += kBlock) {
    float sum = 0;
    for (int i = first; i < first + kBlock; ++i) sum += values[i] * values[i];
    const float size = std::sqrt(sum / kBlock);
    for (int i = first; i < first + kBlock; ++i) weights[i] = size + std::fabs(values[i]);
  }
}

template <typename Block, typename Encode>
BlockError SearchSuper(const Run& run, bool squares, int64_t bytes, Encode encode) {
  std::array<float, kSuperBlock> weights;
  BlockError total;
  uint8_t* out = run.out;
  for (int64_t at = 0; at < run.count; at += kSuperBlock, out += bytes) {
    if (run.importance == nullptr) {
      DefaultWeights(run.values + at, squares, weights.data());
    } else {
      std::copy_n(run.importance + at, kSuperBlock, weights.begin());
    }
    Block block;
    AddTo(total, encode(run.values + at, weights.data(), block, out));
  }
  return total;
}

BlockError SearchQ4_K(const Run& run) {
  const auto encode = [](const float* x, const float* w, AffineSuperBlock& block, uint8_t* out) {
    const BlockError error = EncodeSuperBlock(x, w, 4, block);
    PackQ4_K(block, out);
    return error;
  };
  return SearchSuper<AffineSuperBlock>(run, false, 144, encode);
}

BlockError SearchQ5_K(const Run& run) {
  const auto encode = [](const float* x, const float* w, AffineSuperBlock& block, uint8_t* out) {
    const BlockError error = EncodeSuperBlock(x, w, 5, block);
    PackQ5_K(block, out);
    return error;
  };
  return SearchSuper<AffineSuperBlock>(run, false, 176, encode);
}

BlockError SearchQ6_K(const Run& run) {
  const auto encode = [](const float* x, const float* w, SignedSuperBlock& block, uint8_t* out) {
    const BlockError error = EncodeSuperBlock(x, w, block);
    PackQ6_K(block, out);
    return error;
  };
  return SearchSuper<SignedSuperBlock>(run, true, 210, encode);
}

template <DType dtype>
BlockError Narrow(const Run& run) {
  BlockError total;
  for (int64_t i = 0; i < run.count; ++i) {
    const float bound = dtype == DType::kF16 ? 65504.0F : 0x1.fep127F;
    const float value =
        dtype == DType::kF32 ? run.values[i] : std::clamp(run.values[i], -bound, bound);
    StoreAs(dtype, value, reinterpret_cast<std::byte*>(run.out) + i * SizeOf(dtype));
    const double error = std::fabs(run.values[i] - RoundTo(dtype, value));
    AddTo(total, {error, error * error});
  }
  return total;
}

struct Encoder {
  std::string_view type;
  // Without importance: rounds; -1: searches all the same.
  int rounding = -1;
  BlockError (*search)(const Run&) = nullptr;  // null: importance changes nothing
};

constexpr auto kEncoders = std::to_array<Encoder>({
    {"F32", -1, &Narrow<DType::kF32>},
    {"F16", -1, &Narrow<DType::kF16>},
    {"BF16", -1, &Narrow<DType::kBF16>},
    {"Q8_0", static_cast<int>(BlockRounding::kQ8_0), nullptr},
    {"Q4_0", static_cast<int>(BlockRounding::kQ4_0), &SearchSmall<4, false>},
    {"Q4_1", static_cast<int>(BlockRounding::kQ4_1), &SearchSmall<4, true>},
    {"Q5_0", static_cast<int>(BlockRounding::kQ5_0), &SearchSmall<5, false>},
    {"Q5_1", static_cast<int>(BlockRounding::kQ5_1), &SearchSmall<5, true>},
    {"Q4_K", -1, &SearchQ4_K},
    {"Q5_K", -1, &SearchQ5_K},
    {"Q6_K", -1, &SearchQ6_K},
});

const Encoder* FindEncoder(const GgufBlockType& type) {
  const auto* found = std::find_if(kEncoders.begin(), kEncoders.end(),
                                   [&](const Encoder& entry) { return entry.type == type.name; });
  return found == kEncoders.end() ? nullptr : found;
}

// Relative to its mean; channels that were hardly used still count a little.
std::vector<float> Normalized(absl::Span<const float> importance) {
  constexpr double kFloor = 1e-4;
  double sum = 0;
  for (const float value : importance) sum += value;
  const double mean = sum / static_cast<double>(importance.size());
  std::vector<float> normalized(importance.size(), 1.0F);
  if (!(mean > 0) || !std::isfinite(mean)) return normalized;
  std::transform(importance.begin(), importance.end(), normalized.begin(),
                 [&](float value) { return static_cast<float>(std::max(value / mean, kFloor)); });
  return normalized;
}

EncodeError SearchRows(const BlockRequest& request, const Encoder& encoder) {
  const std::vector<float> importance =
      request.importance.empty() ? std::vector<float>() : Normalized(request.importance);
  const std::vector<float> octets = SideBySide(importance);
  std::vector<float> values(static_cast<size_t>(request.columns));
  const int64_t row_in = request.columns * SizeOf(request.dtype);
  const int64_t row_out = request.columns / request.type->elements * request.type->bytes;
  EncodeError total;
  for (int64_t row = 0; row < request.rows; ++row) {
    WidenToFloat(request.dtype, request.weights + row * row_in, request.columns, values.data());
    const BlockError error = encoder.search(
        {values.data(), importance.empty() ? nullptr : importance.data(), octets.data(),
         request.columns, reinterpret_cast<uint8_t*>(request.blocks) + row * row_out});
    total.max_abs = std::max(total.max_abs, error.max_abs);
    total.sum_squares += error.sum_squares;
  }
  return total;
}

}  // namespace

bool CanEncode(const GgufBlockType& type) { return FindEncoder(type) != nullptr; }

EncodeError EncodeBlocks(const BlockRequest& request) {
  const int64_t count = request.rows * request.columns;
  EncodeError total;
  total.first_non_finite = FirstNonFinite(request.dtype, request.weights, count);
  if (total.first_non_finite >= 0) return total;
  const Encoder& encoder = *FindEncoder(*request.type);
  const bool search =
      encoder.rounding < 0 || (!request.importance.empty() && encoder.search != nullptr);
  if (search) return SearchRows(request, encoder);
  const BlockError error = RoundBlocks(static_cast<BlockRounding>(encoder.rounding), request.dtype,
                                       request.weights, count / kBlock, request.blocks);
  total.max_abs = error.max_abs;
  total.sum_squares = error.sum_squares;
  return total;
}

}  // namespace linchpin
