// Which LibTorch this program runs on.
#pragma once

#include <string>

namespace linchpin {

// As it was built, e.g. "1.13.1", so that LibTorch need not be loaded to tell: a
// module of another build is refused (forward/libtorch_module.h).  Empty where there
// is none that can be loaded.
std::string LibTorchVersion();

}  // namespace linchpin
