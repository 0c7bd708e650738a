// What a tensor is called and how it is laid out: name, element type, shape.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tensor/dtype.h"

namespace linchpin {

// Row-major, little-endian.  A scalar has an empty shape.
struct TensorInfo {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;

  friend bool operator==(const TensorInfo&, const TensorInfo&) = default;
};

// Elements of a shape; nullopt where a dimension is negative or the product
// (zero dimensions taken as one on the way) does not fit int64.
std::optional<int64_t> ElementCount(const std::vector<int64_t>& shape);

// Bytes of a tensor; nullopt as above.
std::optional<int64_t> ByteSize(const TensorInfo& info);

// "[64, 256]"
std::string ShapeText(const std::vector<int64_t>& shape);

}  // namespace linchpin
