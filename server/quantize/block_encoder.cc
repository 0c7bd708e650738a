#include "quantize/block_encoder.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <optional>
#include <vector>

#include "format/gguf_pack.h"
#include "quantize/block_kernel.h"
#include "quantize/block_search.h"
#include "quantize/narrow_kernel.h"
#include "quantize/super_block.h"
#include "tensor/float16.h"

namespace linchpin {
namespace {

constexpr int kBlock = 32;

// One row.
struct Run {
  const float* values = nullptr;
  const float* importance = nullptr;  // null: none given
  int64_t count = 0;
  uint8_t* out = nullptr;
};

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

// The super blocks of a row, as many at a time as `encode` takes together.
template <typename Block, int kTogether, typename Encode>
BlockError SearchRow(const Run& run, bool squares, int64_t bytes, Encode encode,
                     void (*pack)(const Block&, uint8_t*)) {
  std::array<float, kTogether * kSuperBlock> weights;
  std::array<Block, kTogether> blocks;
  BlockError total;
  uint8_t* out = run.out;
  for (int64_t at = 0; at < run.count; at += kTogether * kSuperBlock) {
    const auto count =
        static_cast<int>(std::min<int64_t>(kTogether, (run.count - at) / kSuperBlock));
    for (int64_t i = 0; run.importance == nullptr && i < count * kSuperBlock; i += kSuperBlock) {
      DefaultWeights(run.values + at + i, squares, weights.data() + i);
    }
    const float* weighed = run.importance == nullptr ? weights.data() : run.importance + at;
    encode(run.values + at, weighed, count, blocks.data(), total);
    for (int block = 0; block < count; ++block, out += bytes) pack(blocks[block], out);
  }
  return total;
}

template <int bits>
BlockError SearchAffine(const Run& run) {
  const auto encode = [](const float* x, const float* w, int count, AffineSuperBlock* blocks,
                         BlockError& total) {
    EncodeSuperBlocks(x, w, bits, count, blocks, total);
  };
  return SearchRow<AffineSuperBlock, kAffineTogether>(run, false, bits == 4 ? 144 : 176, encode,
                                                      bits == 4 ? &PackQ4_K : &PackQ5_K);
}

BlockError SearchSigned(const Run& run) {
  const auto encode = [](const float* x, const float* w, int /*count*/, SignedSuperBlock* block,
                         BlockError& total) { EncodeSuperBlock(x, w, *block, total); };
  return SearchRow<SignedSuperBlock, 1>(run, true, 210, encode, &PackQ6_K);
}

struct Encoder {
  std::string_view type;
  std::optional<BlockRounding> rounding;       // without importance
  bool weighed = false;                        // and with it there is a search
  BlockError (*search)(const Run&) = nullptr;  // of a type without a rounding
};

constexpr auto kEncoders = std::to_array<Encoder>({
    {"F32"},
    {"F16"},
    {"BF16"},
    {"Q8_0", BlockRounding::kQ8_0},
    {"Q4_0", BlockRounding::kQ4_0, true},
    {"Q4_1", BlockRounding::kQ4_1, true},
    {"Q5_0", BlockRounding::kQ5_0, true},
    {"Q5_1", BlockRounding::kQ5_1, true},
    {"Q4_K", std::nullopt, true, &SearchAffine<4>},
    {"Q5_K", std::nullopt, true, &SearchAffine<5>},
    {"Q6_K", std::nullopt, true, &SearchSigned},
});

const Encoder* FindEncoder(const GgufBlockType& type) {
  const auto* found = std::find_if(kEncoders.begin(), kEncoders.end(),
                                   [&](const Encoder& entry) { return entry.type == type.name; });
  return found == kEncoders.end() ? nullptr : found;
}

// Calls `encode` with each row and where its blocks go.
template <typename Encode>
BlockError ForEachRow(const BlockRequest& request, const Encode& encode) {
  const int64_t row_in = request.columns * SizeOf(request.dtype);
  const int64_t row_out = request.columns / request.type->elements * request.type->bytes;
  BlockError total;
  for (int64_t row = 0; row < request.rows; ++row) {
    total.Add(encode(request.weights + row * row_in,
                     reinterpret_cast<uint8_t*>(request.blocks) + row * row_out));
  }
  return total;
}

BlockError SearchSmall(const BlockRequest& request, BlockRounding type) {
  const auto importance = TurnImportance({request.importance.begin(), request.importance.end()});
  return ForEachRow(request, [&](const std::byte* row, uint8_t* out) {
    return SearchBlocks(type, request.dtype, row, request.columns, importance.get(), out);
  });
}

BlockError SearchSuper(const BlockRequest& request, const Encoder& encoder) {
  std::vector<float> values(static_cast<size_t>(request.columns));
  return ForEachRow(request, [&](const std::byte* row, uint8_t* out) {
    WidenToFloat(request.dtype, row, request.columns, values.data());
    const float* importance = request.importance.empty() ? nullptr : request.importance.data();
    return encoder.search({values.data(), importance, request.columns, out});
  });
}

// Types that are no blocks.
BlockError StorePlain(const BlockRequest& request, DType dtype) {
  std::vector<float> values(dtype == DType::kF32 ? static_cast<size_t>(request.columns) : 0);
  return ForEachRow(request, [&](const std::byte* row, uint8_t* out) {
    if (dtype != DType::kF32) {
      return NarrowElements(request.dtype, dtype, row, request.columns,
                            reinterpret_cast<std::byte*>(out));
    }
    WidenToFloat(request.dtype, row, request.columns, values.data());
    std::memcpy(out, values.data(), values.size() * sizeof(float));
    return BlockError();
  });
}

BlockError EncodeFinite(const BlockRequest& request) {
  if (request.type->dtype) return StorePlain(request, *request.type->dtype);
  const Encoder& encoder = *FindEncoder(*request.type);
  if (!encoder.rounding) return SearchSuper(request, encoder);
  if (encoder.weighed && !request.importance.empty()) {
    return SearchSmall(request, *encoder.rounding);
  }
  return RoundBlocks(*encoder.rounding, request.dtype, request.weights,
                     request.rows * request.columns / kBlock, request.blocks);
}

}  // namespace

bool CanEncode(const GgufBlockType& type) { return FindEncoder(type) != nullptr; }
bool WeighsErrors(const GgufBlockType& type) {
  const Encoder* encoder = FindEncoder(type);
  return encoder != nullptr && encoder->weighed;
}

std::vector<float> NormalizedImportance(absl::Span<const float> importance) {
  constexpr double kFloor = 1e-4;  // channels that were hardly used still count a little
  double sum = 0;
  for (const float value : importance) sum += value;
  const double mean = sum / static_cast<double>(importance.size());
  std::vector<float> normalized(importance.size(), 1.0F);
  if (!(mean > 0) || !std::isfinite(mean)) return normalized;
  std::transform(importance.begin(), importance.end(), normalized.begin(),
                 [&](float value) { return static_cast<float>(std::max(value / mean, kFloor)); });
  return normalized;
}

EncodeError EncodeBlocks(const BlockRequest& request) {
  EncodeError total;
  total.first_non_finite =
      FirstNonFinite(request.dtype, request.weights, request.rows * request.columns);
  if (total.first_non_finite >= 0) return total;
  const BlockError error = EncodeFinite(request);
  total.max_abs = error.max_abs;
  total.sum_squares = error.sum_squares;
  return total;
}

}  // namespace linchpin
