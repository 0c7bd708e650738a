#include "format/gguf_pack.h"

#include <algorithm>

namespace linchpin {
namespace {

uint8_t Byte(int value) { return static_cast<uint8_t>(value); }

// scale[2] offset[2] both[12]: where ScaleQ4_K of gguf_blocks.cc finds them.
void PackScales(const AffineSuperBlock& block, uint8_t* out) {
  PackHalf(block.scale, out);
  PackHalf(block.offset, out + 2);
  uint8_t* packed = out + 4;
  for (int i = 0; i < 4; ++i) {
    packed[i] = Byte(block.scales[i] | block.scales[i + 4] >> 4 << 6);
    packed[4 + i] = Byte(block.offsets[i] | block.offsets[i + 4] >> 4 << 6);
    packed[8 + i] = Byte((block.scales[i + 4] & 15) | (block.offsets[i + 4] & 15) << 4);
  }
}

// Two groups of 32 share 32 bytes, the first in the low nibbles.
void PackGroupNibbles(const uint8_t* codes, uint8_t* out) {
  for (int pair = 0; pair < 4; ++pair, codes += 64, out += 32) {
    for (int i = 0; i < 32; ++i) out[i] = Byte((codes[i] & 15) | codes[i + 32] << 4);
  }
}

}  // namespace

void PackQ4_K(const AffineSuperBlock& block, uint8_t* out) {
  PackScales(block, out);
  PackGroupNibbles(block.codes, out + 16);
}

void PackQ5_K(const AffineSuperBlock& block, uint8_t* out) {
  PackScales(block, out);
  for (int i = 0; i < 32; ++i) {
    int fifths = 0;
    for (int group = 0; group < 8; ++group) {
      fifths |= (block.codes[32 * group + i] >> 4 & 1) << group;
    }
    out[16 + i] = Byte(fifths);
  }
  PackGroupNibbles(block.codes, out + 48);
}

// Each half of the block has 64 bytes of low nibbles and 32 with two bits of four elements.
void PackQ6_K(const SignedSuperBlock& block, uint8_t* out) {
  for (int half = 0; half < 2; ++half) {
    const uint8_t* codes = block.codes + 128 * half;
    uint8_t* low = out + 64 * half;
    uint8_t* high = out + 128 + 32 * half;
    for (int i = 0; i < 64; ++i) low[i] = Byte((codes[i] & 15) | (codes[i + 64] & 15) << 4);
    for (int i = 0; i < 32; ++i) {
      high[i] = Byte(codes[i] >> 4 | codes[i + 32] >> 4 << 2 | codes[i + 64] >> 4 << 4 |
                     codes[i + 96] >> 4 << 6);
    }
  }
  std::copy_n(block.scales, 16, reinterpret_cast<int8_t*>(out + 192));
  PackHalf(block.scale, out + 208);
}

}  // namespace linchpin
