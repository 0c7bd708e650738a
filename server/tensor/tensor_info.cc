#include "tensor/tensor_info.h"

#include "fmt/format.h"
#include "fmt/ranges.h"

namespace linchpin {

std::optional<int64_t> ElementCount(const std::vector<int64_t>& shape) {
  int64_t product = 1;
  bool zero = false;
  for (const int64_t dimension : shape) {
    if (dimension < 0) return std::nullopt;
    if (dimension == 0) {
      zero = true;
      continue;
    }
    if (__builtin_mul_overflow(product, dimension, &product)) return std::nullopt;
  }
  return zero ? 0 : product;
}

std::optional<int64_t> ByteSize(const TensorInfo& info) {
  const std::optional<int64_t> elements = ElementCount(info.shape);
  int64_t bytes = 0;
  if (!elements || __builtin_mul_overflow(*elements, SizeOf(info.dtype), &bytes)) {
    return std::nullopt;
  }
  return bytes;
}

std::string ShapeText(const std::vector<int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

}  // namespace linchpin
