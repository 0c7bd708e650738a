#include "forward/libtorch_version.h"

#include "forward/libtorch_module.h"

namespace linchpin {

std::string LibTorchVersion() { return HasLibTorch() ? LINCHPIN_LIBTORCH_VERSION : ""; }

}  // namespace linchpin
