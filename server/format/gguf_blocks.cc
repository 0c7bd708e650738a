#include "format/gguf_blocks.h"

#include <array>

#include "tensor/float16.h"

namespace linchpin {
namespace {

using Byte = unsigned char;

float Half(const Byte* bytes) { return FromF16(static_cast<uint16_t>(bytes[0] | bytes[1] << 8)); }

uint32_t Word(const Byte* bytes) {
  return bytes[0] | static_cast<uint32_t>(bytes[1]) << 8 | static_cast<uint32_t>(bytes[2]) << 16 |
         static_cast<uint32_t>(bytes[3]) << 24;
}

int Signed(Byte byte) { return static_cast<int8_t>(byte); }

// Codes of 4 bits: the first half of a block in the low nibbles of its bytes,
// the second in the high ones.
int Nibble(const Byte* codes, int i) { return i < 16 ? codes[i] & 15 : codes[i - 16] >> 4; }
// The same with a fifth bit per element in a word of their own.
int FiveBits(const Byte* high, const Byte* codes, int i) {
  return Nibble(codes, i) | static_cast<int>(Word(high) >> i & 1) << 4;
}

// scale[2] codes[16]
void DecodeQ4_0(const Byte* block, float* out) {
  const float scale = Half(block);
  for (int i = 0; i < 32; ++i) out[i] = scale * static_cast<float>(Nibble(block + 2, i) - 8);
}

// scale[2] offset[2] codes[16]
void DecodeQ4_1(const Byte* block, float* out) {
  const float scale = Half(block);
  const float offset = Half(block + 2);
  for (int i = 0; i < 32; ++i) out[i] = scale * static_cast<float>(Nibble(block + 4, i)) + offset;
}

// scale[2] high[4] codes[16]
void DecodeQ5_0(const Byte* block, float* out) {
  const float scale = Half(block);
  for (int i = 0; i < 32; ++i) {
    out[i] = scale * static_cast<float>(FiveBits(block + 2, block + 6, i) - 16);
  }
}

// scale[2] offset[2] high[4] codes[16]
void DecodeQ5_1(const Byte* block, float* out) {
  const float scale = Half(block);
  const float offset = Half(block + 2);
  for (int i = 0; i < 32; ++i) {
    out[i] = scale * static_cast<float>(FiveBits(block + 4, block + 8, i)) + offset;
  }
}

// scale[2] codes[32]
void DecodeQ8_0(const Byte* block, float* out) {
  const float scale = Half(block);
  for (int i = 0; i < 32; ++i) out[i] = scale * static_cast<float>(Signed(block[2 + i]));
}

// scales and offsets of 16 elements, 4 bits each [16], codes of 2 bits [64],
// scale[2] of the scales, scale[2] of the offsets
void DecodeQ2_K(const Byte* block, float* out) {
  const float scale = Half(block + 80);
  const float offset = Half(block + 82);
  for (int i = 0; i < 256; ++i) {
    const Byte both = block[i / 16];
    const int code = block[16 + i / 128 * 32 + i % 32] >> i / 32 % 4 * 2 & 3;
    out[i] = scale * static_cast<float>(both & 15) * static_cast<float>(code) -
             offset * static_cast<float>(both >> 4);
  }
}

// The scale of the i-th 16 elements of Q3_K, 6 bits less 32: the low 4 bits in
// the nibbles of 8 bytes, the high 2 in 4 bytes more.
int ScaleQ3_K(const Byte* scales, int i) {
  const int low = i < 8 ? scales[i] & 15 : scales[i - 8] >> 4;
  return (low | (scales[8 + i % 4] >> i / 4 * 2 & 3) << 4) - 32;
}

// third bits[32] codes of 2 bits[64] scales[12] scale[2]
void DecodeQ3_K(const Byte* block, float* out) {
  const float scale = Half(block + 108);
  for (int i = 0; i < 256; ++i) {
    const int low = block[32 + i / 128 * 32 + i % 32] >> i / 32 % 4 * 2 & 3;
    const int high = block[i % 32] >> i / 32 & 1;
    out[i] = scale * static_cast<float>(ScaleQ3_K(block + 96, i / 16)) *
             static_cast<float>(low + 4 * high - 4);
  }
}

struct ScaleAndOffset {
  float scale;
  float offset;
};

// Of the i-th 32 elements of Q4_K and Q5_K, 6 bits each in 12 bytes: the first
// four in the low bits of bytes 0..3 and 4..7, whose high bits complete the
// nibbles of bytes 8..11 to the last four.
ScaleAndOffset ScaleQ4_K(const Byte* block, int i) {
  const Byte* packed = block + 4;
  int scale = packed[i % 4] & 63;
  int offset = packed[4 + i % 4] & 63;
  if (i >= 4) {
    scale = (packed[4 + i] & 15) | packed[i - 4] >> 6 << 4;
    offset = packed[4 + i] >> 4 | packed[i] >> 6 << 4;
  }
  return {Half(block) * static_cast<float>(scale), Half(block + 2) * static_cast<float>(offset)};
}

// scale[2] of the scales, scale[2] of the offsets, both[12], codes of 4 bits[128]
void DecodeQ4_K(const Byte* block, float* out) {
  for (int group = 0; group < 8; ++group) {
    const auto [scale, offset] = ScaleQ4_K(block, group);
    const Byte* codes = block + 16 + group / 2 * 32;
    for (int i = 0; i < 32; ++i) {
      *out++ = scale * static_cast<float>(codes[i] >> group % 2 * 4 & 15) - offset;
    }
  }
}

// as Q4_K, with fifth bits[32] before the codes
void DecodeQ5_K(const Byte* block, float* out) {
  for (int group = 0; group < 8; ++group) {
    const auto [scale, offset] = ScaleQ4_K(block, group);
    const Byte* codes = block + 48 + group / 2 * 32;
    for (int i = 0; i < 32; ++i) {
      const int code = (codes[i] >> group % 2 * 4 & 15) | (block[16 + i] >> group & 1) << 4;
      *out++ = scale * static_cast<float>(code) - offset;
    }
  }
}

// low 4 bits[128] high 2 bits[64] scales[16] scale[2]
void DecodeQ6_K(const Byte* block, float* out) {
  const float scale = Half(block + 208);
  for (int i = 0; i < 256; ++i) {
    const int half = i / 128;
    const int low = block[half * 64 + i % 64] >> i / 64 % 2 * 4 & 15;
    const int high = block[128 + half * 32 + i % 32] >> i / 32 % 4 * 2 & 3;
    out[i] = scale * static_cast<float>(Signed(block[192 + i / 16])) *
             static_cast<float>((low | high << 4) - 32);
  }
}

// The 16 levels of the IQ4 types.
constexpr std::array<float, 16> kLevels = {-127, -104, -83, -65, -49, -35, -22, -10,
                                           1,    13,   25,  38,  53,  69,  89,  113};

// scale[2] codes[16]
void DecodeIQ4_NL(const Byte* block, float* out) {
  const float scale = Half(block);
  for (int i = 0; i < 32; ++i) out[i] = scale * kLevels[Nibble(block + 2, i)];
}

// scale[2] high 2 bits of the scales[2], their low 4 bits[4], codes[128]
void DecodeIQ4_XS(const Byte* block, float* out) {
  const int high_bits = block[2] | block[3] << 8;
  for (int group = 0; group < 8; ++group) {
    const int low = block[4 + group / 2] >> group % 2 * 4 & 15;
    const int high = high_bits >> group * 2 & 3;
    const float scale = Half(block) * static_cast<float>((low | high << 4) - 32);
    for (int i = 0; i < 32; ++i) *out++ = scale * kLevels[Nibble(block + 8 + group * 16, i)];
  }
}

template <void (*decode)(const Byte*, float*), int elements, int bytes>
void DecodeBlocks(const std::byte* source, int64_t blocks, float* out) {
  for (int64_t i = 0; i < blocks; ++i) {
    decode(reinterpret_cast<const Byte*>(source) + i * bytes, out + i * elements);
  }
}

template <void (*decode)(const Byte*, float*), int elements, int bytes>
constexpr GgufBlockType Quantized(uint32_t id, std::string_view name) {
  return {id, name, elements, bytes, std::nullopt, &DecodeBlocks<decode, elements, bytes>};
}

constexpr GgufBlockType Plain(uint32_t id, std::string_view name, DType dtype, int64_t bytes) {
  return {id, name, 1, bytes, dtype};
}

// Known by name and not built.
constexpr GgufBlockType Unread(uint32_t id, std::string_view name) { return {id, name, 1, 0}; }

constexpr auto kTypes = std::to_array<GgufBlockType>({
    Plain(0, "F32", DType::kF32, 4),
    Plain(1, "F16", DType::kF16, 2),
    Quantized<DecodeQ4_0, 32, 18>(2, "Q4_0"),
    Quantized<DecodeQ4_1, 32, 20>(3, "Q4_1"),
    Unread(4, "Q4_2"),
    Unread(5, "Q4_3"),
    Quantized<DecodeQ5_0, 32, 22>(6, "Q5_0"),
    Quantized<DecodeQ5_1, 32, 24>(7, "Q5_1"),
    Quantized<DecodeQ8_0, 32, 34>(8, "Q8_0"),
    Unread(9, "Q8_1"),
    Quantized<DecodeQ2_K, 256, 84>(10, "Q2_K"),
    Quantized<DecodeQ3_K, 256, 110>(11, "Q3_K"),
    Quantized<DecodeQ4_K, 256, 144>(12, "Q4_K"),
    Quantized<DecodeQ5_K, 256, 176>(13, "Q5_K"),
    Quantized<DecodeQ6_K, 256, 210>(14, "Q6_K"),
    Unread(15, "Q8_K"),
    Unread(16, "IQ2_XXS"),
    Unread(17, "IQ2_XS"),
    Unread(18, "IQ3_XXS"),
    Unread(19, "IQ1_S"),
    Quantized<DecodeIQ4_NL, 32, 18>(20, "IQ4_NL"),
    Unread(21, "IQ3_S"),
    Unread(22, "IQ2_S"),
    Quantized<DecodeIQ4_XS, 256, 136>(23, "IQ4_XS"),
    Plain(24, "I8", DType::kI8, 1),
    Plain(25, "I16", DType::kI16, 2),
    Plain(26, "I32", DType::kI32, 4),
    Plain(27, "I64", DType::kI64, 8),
    Plain(28, "F64", DType::kF64, 8),
    Unread(29, "IQ1_M"),
    Plain(30, "BF16", DType::kBF16, 2),
    Unread(31, "Q4_0_4_4"),
    Unread(32, "Q4_0_4_8"),
    Unread(33, "Q4_0_8_8"),
    Unread(34, "TQ1_0"),
    Unread(35, "TQ2_0"),
    Unread(36, "IQ4_NL_4_4"),
    Unread(37, "IQ4_NL_4_8"),
    Unread(38, "IQ4_NL_8_8"),
    Unread(39, "MXFP4"),
    Unread(40, "NVFP4"),
    Unread(41, "Q1_0"),
});

}  // namespace

const GgufBlockType* FindGgufBlockType(uint32_t id) {
  return id < kTypes.size() ? &kTypes[id] : nullptr;
}

}  // namespace linchpin
