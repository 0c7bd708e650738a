// The command line `linchpin`: every command but `report` is a call of
// linchpin.v1.
#include <malloc.h>

#include <cstdio>
#include <cstdlib>
#include <exception>

#include "client/command_line.h"
#include "client/commands.h"
#include "client/interrupts.h"
#include "grpc/support/log.h"

namespace {

// Freed memory stays at hand for the next message: taking it from the system anew costs
// a stream more than all else.  server/main.cc does the same.
constexpr int kKeptFreeBytes = 32 << 20;

// What gRPC would log of a connection stands in the error of the call: stderr has one line for
// it.  Its own variable asks for the log.
void KeepGrpcSilent() {
  if (std::getenv("GRPC_VERBOSITY") == nullptr) gpr_set_log_function([](gpr_log_func_args*) {});
}

}  // namespace

int main(int argc, char** argv) try {
  mallopt(M_TRIM_THRESHOLD, kKeptFreeBytes);
  mallopt(M_MMAP_THRESHOLD, kKeptFreeBytes);
  KeepGrpcSilent();
  linchpin::CommandLine line;
  if (const auto exit_code = linchpin::ParseCommandLine(argc, argv, line)) return *exit_code;
  linchpin::Interrupts interrupts;  // before gRPC starts its threads
  // Not by returning: commands.cc says why.  Output was flushed.
  std::_Exit(linchpin::RunCommand(line, interrupts));
} catch (const std::exception& exception) {
  // What no command foresees, as memory that runs out, is an error like any other.
  std::fprintf(stderr, "error: %s\n", exception.what());
  std::_Exit(EXIT_FAILURE);
}
