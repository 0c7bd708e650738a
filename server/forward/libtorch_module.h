// The one door to LibTorch, which is loaded when a forward pass first needs it.
//
// Its loading takes longer than most commands: hundreds of libraries and their
// static initialisers.  All that needs it is built into one shared object, which
// lies beside the program or in ../lib/linchpin and is opened by its absolute path.
#pragma once

#include <filesystem>
#include <thread>

#include "absl/status/statusor.h"
#include "forward/computation.h"

namespace linchpin {

inline constexpr char kLibTorchModule[] = "linchpin-libtorch.so";
inline constexpr char kLibTorchModuleSymbol[] = "linchpin_libtorch_module";

// What the module shows under kLibTorchModuleSymbol.  The first member stays where it is.
struct LibTorchModule {
  const char* build;  // kForwardBuild (forward/build_digest.h) of its own build
  const Computation* (*computation)();
};

// Loads the module or waits until it is loaded; at once after the first time.
// INTERNAL naming the file if it is missing, cannot be loaded or is of another
// build; then, too, it is not tried again.  Thread-safe.
absl::StatusOr<const Computation*> LoadLibTorch();

// Loads it in a thread of its own, for whoever will need it in a moment.
std::jthread LoadLibTorchMeanwhile();

// False if the module is not there, or could not be loaded when it was tried.
bool HasLibTorch();

// What LoadLibTorch does with the file that it finds; each call loads anew.
absl::StatusOr<const Computation*> LoadModule(const std::filesystem::path& file);

}  // namespace linchpin
