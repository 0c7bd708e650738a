// Runs one command: opens the connection, calls, prints.
#pragma once

#include "client/command_line.h"
#include "client/interrupts.h"

namespace linchpin {

// Prints the result on stdout or the error on stderr; returns the exit code.
int RunCommand(const CommandLine& line, Interrupts& interrupts);

}  // namespace linchpin
