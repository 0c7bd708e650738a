// How the elements of a weight are coded, as far as the arithmetic goes.
#pragma once

#include <cstdint>

#include "quantize/scheme.h"

namespace linchpin {

// q = round(w / s) + z, within the codes that there are; read back as (q - z) s.
struct Coding {
  CodeKind kind = CodeKind::kPackedInt;
  int bits = 4;
  bool asymmetric = false;  // z is not always 0

  // What the scale of the largest element of a group makes of it: min-max puts
  // it at `full`, between the last two codes of an integer; at `exact`, on a code
  // that is a power of two, it is stored as it is.
  float full() const;
  float exact() const;
  // Bytes that `columns` codes take.
  int64_t RowBytes(int64_t columns) const { return columns * bits / 8; }
};

Coding CodingOf(Scheme scheme, bool asymmetric);

}  // namespace linchpin
