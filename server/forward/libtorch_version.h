// Which LibTorch this program runs on.
#pragma once

#include <string>

namespace linchpin {

std::string LibTorchVersion();  // e.g. "1.13.1"

}  // namespace linchpin
