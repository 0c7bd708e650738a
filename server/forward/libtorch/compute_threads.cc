#include "forward/libtorch/compute_threads.h"

#include <ATen/Parallel.h>
#include <dlfcn.h>

namespace linchpin {
namespace {

// OpenBLAS has a pool of its own that LibTorch knows nothing of.
void QuietOpenBlas() {
  using SetThreads = void (*)(int);
  if (const auto set =
          reinterpret_cast<SetThreads>(dlsym(RTLD_DEFAULT, "openblas_set_num_threads"))) {
    set(1);
  }
}

}  // namespace

void ComputeOnThisThread() {
  static const bool quiet = (QuietOpenBlas(), true);
  thread_local const bool told = (at::set_num_threads(1), quiet);
  static_cast<void>(told);
}

}  // namespace linchpin
