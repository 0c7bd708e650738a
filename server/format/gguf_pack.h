// Puts blocks of GGUF's quantized types together: the mirror of gguf_blocks.h,
// which takes them apart and says how they lie.
//
// Pure functions of codes and scales that somebody chose; layouts as in ggml
// (https://github.com/ggml-org/ggml).  Inline where an encoder's inner loop
// needs them.
#pragma once

#include <cstdint>
#include <cstring>

namespace linchpin {

// The low 4 bits of 32 codes in 16 bytes: the first half in the low nibbles.
inline void PackNibbles(const uint8_t* codes, uint8_t* out) {
  constexpr uint64_t kLow = 0x0f0f0f0f0f0f0f0f;
  for (int at = 0; at < 16; at += 8) {  // eight bytes in a word: compilers pack single ones badly
    uint64_t low = 0, high = 0;
    std::memcpy(&low, codes + at, 8);
    std::memcpy(&high, codes + at + 16, 8);
    const uint64_t packed = (low & kLow) | (high & kLow) << 4;
    std::memcpy(out + at, &packed, 8);
  }
}

// The fifth bits of 32 codes in 4 bytes, that of element 0 lowest.
inline void PackFifthBits(const uint8_t* codes, uint8_t* out) {
  for (int byte = 0; byte < 4; ++byte) {
    uint64_t word = 0;
    std::memcpy(&word, codes + 8 * byte, 8);
    // The lowest bit of byte i goes to bit 56 + i; no two terms meet.
    const uint64_t bits = (word >> 4 & 0x0101010101010101) * 0x0102040810204080;
    out[byte] = static_cast<uint8_t>(bits >> 56);
  }
}

inline void PackHalf(uint16_t bits, uint8_t* out) {
  out[0] = static_cast<uint8_t>(bits);
  out[1] = static_cast<uint8_t>(bits >> 8);
}

// Q4_K and Q5_K: element i is scale x scales[i / 32] x codes[i] less
// offset x offsets[i / 32].
struct AffineSuperBlock {
  uint16_t scale = 0;       // F16
  uint16_t offset = 0;      // F16
  uint8_t scales[8] = {};   // 6 bits
  uint8_t offsets[8] = {};  // 6 bits
  uint8_t codes[256] = {};  // 4 or 5 bits
};

// Q6_K: element i is scale x scales[i / 16] x (codes[i] - 32).
struct SignedSuperBlock {
  uint16_t scale = 0;  // F16
  int8_t scales[16] = {};
  uint8_t codes[256] = {};  // 6 bits
};

// Write 144, 176 and 210 bytes.
void PackQ4_K(const AffineSuperBlock& block, uint8_t* out);
void PackQ5_K(const AffineSuperBlock& block, uint8_t* out);
void PackQ6_K(const SignedSuperBlock& block, uint8_t* out);

}  // namespace linchpin
