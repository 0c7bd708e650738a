// A dense float32 matrix in row-major order, and a view of one.
//
// In activations a row is a token and a column a channel; in weights a row is
// an output channel and a column an input channel, as in PyTorch.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace linchpin {

// Does not own its memory.
struct MatrixView {
  const float* data = nullptr;
  int64_t rows = 0;
  int64_t columns = 0;

  absl::Span<const float> Row(int64_t row) const {
    return {data + row * columns, static_cast<size_t>(columns)};
  }
  float At(int64_t row, int64_t column) const { return data[row * columns + column]; }
};

struct Matrix {
  std::vector<float> data;  // rows x columns
  int64_t rows = 0;
  int64_t columns = 0;

  MatrixView View() const { return {data.data(), rows, columns}; }
};

}  // namespace linchpin
