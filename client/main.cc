// The command line `linchpin`: every command but `report` is a call of
// linchpin.v1.
#include <malloc.h>

#include <cstdio>
#include <cstdlib>
#include <exception>

#include "client/command_line.h"
#include "client/commands.h"
#include "client/interrupts.h"

namespace {

// Freed memory stays at hand for the next message: taking it from the system anew costs
// a stream more than all else.  server/main.cc does the same.
constexpr int kKeptFreeBytes = 32 << 20;

}  // namespace

int main(int argc, char** argv) try {
  mallopt(M_TRIM_THRESHOLD, kKeptFreeBytes);
  mallopt(M_MMAP_THRESHOLD, kKeptFreeBytes);
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
