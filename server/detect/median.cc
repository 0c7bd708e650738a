#include "detect/median.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace linchpin {

float MedianAbs(MatrixView matrix) {
  std::vector<float> values(matrix.data, matrix.data + matrix.rows * matrix.columns);
  for (float& value : values) value = std::fabs(value);
  const auto middle = values.begin() + (static_cast<int64_t>(values.size()) - 1) / 2;
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace linchpin
