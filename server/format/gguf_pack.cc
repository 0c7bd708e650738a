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
  std::fill_n(out + 16, 32, uint8_t{0});
  for (int i = 0; i < 256; ++i) {
    out[16 + i % 32] = Byte(out[16 + i % 32] | (block.codes[i] >> 4 & 1) << i / 32);
  }
  PackGroupNibbles(block.codes, out + 48);
}

void PackQ6_K(const SignedSuperBlock& block, uint8_t* out) {
  std::fill_n(out, 192, uint8_t{0});
  for (int i = 0; i < 256; ++i) {
    uint8_t& low = out[i / 128 * 64 + i % 64];
    uint8_t& high = out[128 + i / 128 * 32 + i % 32];
    low = Byte(low | (block.codes[i] & 15) << i / 64 % 2 * 4);
    high = Byte(high | block.codes[i] >> 4 << i / 32 % 4 * 2);
  }
  for (int i = 0; i < 16; ++i) out[192 + i] = static_cast<uint8_t>(block.scales[i]);
  PackHalf(block.scale, out + 208);
}

}  // namespace linchpin
