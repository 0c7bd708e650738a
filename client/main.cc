// The command line `linchpin`: every command but `report` is a call of
// linchpin.v1.
#include <cstdlib>

#include "client/command_line.h"
#include "client/commands.h"
#include "client/interrupts.h"

int main(int argc, char** argv) {
  linchpin::CommandLine line;
  if (const auto exit_code = linchpin::ParseCommandLine(argc, argv, line)) return *exit_code;
  linchpin::Interrupts interrupts;  // before gRPC starts its threads
  // Not by returning: commands.cc says why.  Output was flushed.
  std::_Exit(linchpin::RunCommand(line, interrupts));
}
