// A module like the one with LibTorch, but of another build; or, with NO_MODULE, a
// library that is none.
#include "forward/libtorch_module.h"

extern "C" {

#ifndef NO_MODULE
extern const linchpin::LibTorchModule linchpin_libtorch_module;
const linchpin::LibTorchModule linchpin_libtorch_module = {"another one", nullptr};
#endif
}
