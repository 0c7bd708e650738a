#include "forward/libtorch_module.h"

#include <dlfcn.h>

#include <atomic>
#include <string_view>
#include <system_error>

#include "base/status.h"
#include "fmt/format.h"
#include "forward/build_digest.h"

namespace linchpin {
namespace {

namespace fs = std::filesystem;

// Where the module may lie, seen from the program.
constexpr std::string_view kPlaces[] = {".", "../lib/linchpin"};
constexpr std::string_view kRemedy =
    "install it there as it was built with this program; what needs no forward pass works without";

std::atomic<bool> loaded = false;
std::atomic<bool> failed = false;

fs::path ProgramDirectory() {
  std::error_code error;
  return fs::read_symlink("/proc/self/exe", error).parent_path();
}

// Empty if it is in none of the places.
fs::path FindModule() {
  const fs::path program = ProgramDirectory();
  for (const std::string_view place : kPlaces) {
    std::error_code error;
    fs::path file = (program / place / kLibTorchModule).lexically_normal();
    if (fs::exists(file, error)) return file;
  }
  return {};
}

absl::StatusOr<const Computation*> FindAndLoad() {
  const fs::path file = FindModule();
  if (!file.empty()) return LoadModule(file);
  const fs::path program = ProgramDirectory();
  return Error(Reason::kInternal, (program / kLibTorchModule).string(),
               fmt::format("it is neither there nor in {}, and a forward pass needs it",
                           (program / kPlaces[1]).lexically_normal().string()),
               kRemedy);
}

}  // namespace

absl::StatusOr<const Computation*> LoadModule(const fs::path& file) {
  // Its names, and those of the many libraries behind it, stay among themselves.  It is
  // linked to be bound at once; to bind them, too, would take a tenth longer.
  void* const library = dlopen(file.c_str(), RTLD_LAZY | RTLD_LOCAL);
  if (library == nullptr) {
    return Error(Reason::kInternal, file.string(), fmt::format("cannot be loaded: {}", dlerror()),
                 kRemedy);
  }
  const auto* module = static_cast<const LibTorchModule*>(dlsym(library, kLibTorchModuleSymbol));
  if (module == nullptr || std::string_view(module->build) != kForwardBuild) {
    return Error(Reason::kInternal, file.string(), "it is of another build than this program",
                 kRemedy);
  }
  return module->computation();
}

absl::StatusOr<const Computation*> LoadLibTorch() {
  static const absl::StatusOr<const Computation*> computation = [] {
    absl::StatusOr<const Computation*> result = FindAndLoad();
    (result.ok() ? loaded : failed) = true;
    return result;
  }();
  return computation;
}

std::jthread LoadLibTorchMeanwhile() {
  if (loaded || failed) return {};
  try {
    return std::jthread([] { static_cast<void>(LoadLibTorch()); });
  } catch (const std::system_error&) {
    return {};  // no more threads to be had: who needs it loads it
  }
}

bool HasLibTorch() { return !failed && !FindModule().empty(); }

}  // namespace linchpin
