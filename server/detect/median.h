// The middle of magnitudes.
#pragma once

#include "tensor/matrix.h"

namespace linchpin {

// The median of |value|, the lower of the two middle elements as torch.median takes it.
float MedianAbs(MatrixView matrix);

}  // namespace linchpin
