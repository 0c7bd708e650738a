// The outputs whose bytes are golden, and how each is made.
#pragma once

#include <string>
#include <vector>

#include "artifact/artifact_writer.h"
#include "base/run_context.h"
#include "format/json.h"
#include "storage/memory_storage.h"
#include "tests/support/tiny_checkpoint.h"

namespace linchpin {

struct GoldenCase {
  std::string name;
  TinyCheckpoint source;
  QuantizeOptions options;
  bool measured = true;  // else nothing is known of what goes into the layers
};

// Every scheme in every format by every rule that makes a difference, and what else is asked for.
std::vector<GoldenCase> GoldenCases();

// Digests of what one of them writes: of its weights (adapters and index among them), of its
// linchpin.json but for the version of the program, and of all other files.
Json DigestsOf(const GoldenCase& golden, const RunContext& context);

}  // namespace linchpin
