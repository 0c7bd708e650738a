// The command line as data: what was asked for, checked as far as syntax goes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace linchpin {

struct ConnectionOptions {
  std::string endpoint;  // empty: a private server
  std::string tls_ca;
  std::string tls_cert;
  std::string tls_key;
  std::string token_file;
  std::string push_metrics;  // of a private server: URL of a Pushgateway
};

// Where tokens come from; at most one is set.
struct TokenOptions {
  std::string ids;        // "1,2,3"
  std::string text;       // as it stands
  std::string ids_file;   // JSON array of arrays
  std::string text_file;  // UTF-8
};

// 0: the server's default.
struct WindowOptions {
  int32_t size = 0;
  int32_t count = 0;
};

// What to look with and by which rules.
struct LookOptions {
  std::string detection = "on";  // of compress and plan: "off" runs no forward pass
  int32_t prompts = 1;
  bool weights_only = false;
  std::vector<std::string> thresholds;  // "NAME=VALUE"
};

struct ProofOptions {
  std::string level = "none";
  TokenOptions tokens;
  WindowOptions windows;
  bool study = false;
};

struct QuantizationChoices {
  std::string scheme = "w4a16";
  std::string format = "compressed-tensors";
  std::string group_size = "auto";
  bool asymmetric = false;
  bool equalize = false;
  std::string scale;  // empty: the server's default
  std::string preserve = "tensor";
  std::string gguf_donor;
  int block_bits = 4;
  std::string block = "16384";  // elements, or a tile as "128x128"
  float z = 0;
  int embeddings = 0;  // bits; 0: as it is
  int lm_head = 0;
  // "magnitude", "2:4"; empty: not.  With it scheme, format and preserve are empty
  // unless they were given.
  std::string prune;
  double sparsity = -1;  // below 0: the default
  std::vector<std::string> ignore;
  std::vector<std::string> include;
  std::string source_digest = "on";  // "off": the manifest lacks it
  std::string calibration_file;      // JSON array of arrays of ids if it is called so, else text
};

// What evaluate finds out besides; names and defaults as the API's Analyses.
struct AnalysisChoices {
  bool arms = false;
  std::vector<std::string> blocks;  // elements, or "tensor"; empty: the server's
  int bits = 4;
  float z = 9;
  bool activations = false;
  double smoothing = 0.85;
  bool awq = false;
  std::string calibration_file;  // as of QuantizationChoices

  bool any() const { return arms || activations || awq; }
};

struct CommandLine {
  ConnectionOptions connection;
  bool json = false;
  bool quiet = false;
  std::string command;  // "detect", "compress", ...
  std::string model;    // MODEL or DIR
  std::string output;   // OUT
  TokenOptions tokens;  // the prompt of detect, the text of evaluate
  WindowOptions windows;
  LookOptions look;
  ProofOptions proof;
  QuantizationChoices quantization;
  AnalysisChoices analyses;
  std::string against;                 // OTHER of evaluate
  std::string report_file;             // --out of detect and report, --manifest of compress
  std::vector<std::string> manifests;  // of report
  std::string job_file;                // --save of plan, --plan of the commands for shards
  int shard = 0;                       // of compress-shard
  int workers = 4;                     // of compress-shards
  std::string max_memory;              // "300MB"; empty: no bound
  bool overwrite = false;
  bool upload = false;
};

// Reads the arguments.  Returns the exit code where there is nothing more to
// do: 0 after --help and --version, 2 after a usage error, both printed.
std::optional<int> ParseCommandLine(int argc, const char* const* argv, CommandLine& line);

}  // namespace linchpin
