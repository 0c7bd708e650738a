// Every setting of linchpin-server; option_table.cc says what each means.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "identity/gate.h"
#include "service/connection_limits.h"
#include "service/credentials.h"
#include "storage/remote_stores.h"

namespace linchpin {

struct ServerOptions {
  std::vector<std::string> listen = {"127.0.0.1:50051"};
  TlsFiles tls;
  GateSettings gate;
  std::string metrics = "127.0.0.1:9464";  // or "off"
  std::string push_metrics;                // URL of a Pushgateway, or empty
  LocalStorageOptions storage;             // default: no roots, so bytes only
  RemoteStorageOptions remote;
  int slots = 2;
  int threads = 0;          // of one job; parsing puts the number of cores in place of 0
  uint64_t max_memory = 0;  // bytes of all jobs; parsing puts the machine's limit in place of 0
  uint64_t max_artifact_bytes = uint64_t{1} << 30;
  std::string scratch_dir;   // where artifacts lie; empty for memory
  uint64_t max_scratch = 0;  // bytes of all jobs there; 0 for what is free at the start
  ConnectionLimits connections;
  int idle_seconds = 60;  // a stream that stands still for so long is ended
  int drain_seconds = 30;
  std::string log_level = "info";
  int exit_with_fd = -1;
  int ready_fd = -1;
};

struct ParsedOptions {
  ServerOptions options;
  // Set if the program is to end at once: 0 after --help, 2 for wrong usage.
  std::optional<int> exit_code;
  std::string text;  // what to print then
};

// Reads the command line; for what it does not say the environment; for what
// neither says the JSON object in the file that --config or LINCHPIN_CONFIG
// names.  The first value that is none is told in one line that names it.
ParsedOptions ParseServerOptions(int argc, const char* const* argv);

}  // namespace linchpin
