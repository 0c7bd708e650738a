#include "forward/libtorch_version.h"

#include <torch/version.h>

namespace linchpin {

std::string LibTorchVersion() { return TORCH_VERSION; }

}  // namespace linchpin
