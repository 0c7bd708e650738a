#include "options.h"

#include <algorithm>
#include <filesystem>
#include <sstream>
#include <thread>

#include "CLI/CLI.hpp"
#include "jobs/memory_limit.h"

namespace linchpin {
namespace {

constexpr char kAbout[] =
    "linchpin-server: compresses large language models over gRPC without breaking them.\n"
    "Finds a model's super weights, keeps them bit for bit and quantizes the rest.\n";

constexpr char kFooter[] =
    "\n"
    "Every option but the last two can be given in the environment: --max-memory as\n"
    "LINCHPIN_MAX_MEMORY, and so on; lists separated by commas.  SIGTERM and SIGINT drain:\n"
    "health turns NOT_SERVING, new jobs are refused, running ones may finish.\n"
    "\n"
    "Examples:\n"
    "  linchpin-server --read-root /models --write-root /out\n"
    "  linchpin-server --listen unix:/run/linchpin.sock --metrics off --read-root /models\n"
    "  linchpin-server --listen 0.0.0.0:50051 --tls-cert tls.crt --tls-key tls.key \\\n"
    "                  --tls-client-ca ca.crt --read-root /models --write-root /out";

// "--max-memory" -> "LINCHPIN_MAX_MEMORY".
std::string EnvironmentName(const std::string& flag) {
  std::string name = "LINCHPIN_" + flag.substr(2);
  for (char& c : name) c = c == '-' ? '_' : static_cast<char>(std::toupper(c));
  return name;
}

template <class T>
CLI::Option* Add(CLI::App& app, const std::string& flag, T& value, const std::string& help) {
  return app.add_option(flag, value, help)->envname(EnvironmentName(flag));
}

template <class T>
CLI::Option* AddList(CLI::App& app, const std::string& flag, T& value, const std::string& help) {
  return Add(app, flag, value, help)->delimiter(',')->allow_extra_args(false);
}

void AddNetwork(CLI::App& app, ServerOptions& options) {
  AddList(app, "--listen", options.listen,
          "Where to serve: HOST:PORT, [IPV6]:PORT or unix:/PATH; may be given again. Plaintext "
          "only on a unix socket or loopback")
      ->type_name("ADDR")
      ->capture_default_str();
  Add(app, "--tls-cert", options.tls.certificate,
      "Certificate chain (PEM), for every address but unix sockets; reloaded when it changes")
      ->type_name("FILE");
  Add(app, "--tls-key", options.tls.key, "Its private key (PEM, no pass phrase)")
      ->type_name("FILE");
  Add(app, "--tls-client-ca", options.tls.client_ca,
      "Serve only clients with a certificate of this authority (mutual TLS)")
      ->type_name("FILE");
  Add(app, "--metrics", options.metrics, "Where Prometheus reads /metrics, or off")
      ->type_name("ADDR:PORT")
      ->capture_default_str();
}

void AddStorage(CLI::App& app, ServerOptions& options) {
  AddList(app, "--read-root", options.storage.read_roots,
          "Directory that calls may read below; may be given again. Without roots the server "
          "only takes bytes")
      ->type_name("DIR");
  AddList(app, "--write-root", options.storage.write_roots,
          "Directory that calls may write, and read, below; may be given again")
      ->type_name("DIR");
  app.add_flag("--allow-symlinks", options.storage.allow_symlinks,
               "Follow symbolic links that stay beneath a root")
      ->envname("LINCHPIN_ALLOW_SYMLINKS");
}

// CLI11 would take "-1" for 2^64 - 1.
CLI::Option* TakeSize(CLI::Option* option) {
  return option->transform(CLI::AsSizeValue(false))
      ->transform(
          [](std::string text) {
            if (text.find('-') != std::string::npos) throw CLI::ValidationError(text, "is no size");
            return text;
          },
          "")
      ->type_name("SIZE");
}

void AddLimits(CLI::App& app, ServerOptions& options) {
  Add(app, "--slots", options.slots, "Jobs at a time; more are told to come back")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  Add(app, "--threads", options.threads, "Compute threads of one job; 0 is the number of cores")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  TakeSize(Add(app, "--max-memory", options.max_memory,
               "Memory for all jobs, such as 4G or 512MiB; default: this machine's or cgroup's "
               "limit less what the server itself needs"));
  TakeSize(Add(app, "--max-artifact-bytes", options.max_artifact_bytes,
               "Largest model that CompressArtifact takes as bytes; default 1GiB"));
}

void AddProcess(CLI::App& app, ServerOptions& options) {
  Add(app, "--drain-seconds", options.drain_seconds,
      "Time for running jobs to finish when told to stop")
      ->check(CLI::Range(0, 86'400))
      ->capture_default_str();
  Add(app, "--log-level", options.log_level, "What to log to stderr; info has a line per job")
      ->check(CLI::IsMember({"debug", "info", "warning", "error", "off"}))
      ->capture_default_str();
  app.add_option("--exit-with-fd", options.exit_with_fd,
                 "Stop when this inherited pipe reaches its end: when who started the server is "
                 "gone")
      ->check(CLI::NonNegativeNumber)
      ->type_name("FD");
  app.add_option("--ready-fd", options.ready_fd,
                 "Write the addresses as one line to this inherited descriptor once they serve")
      ->check(CLI::NonNegativeNumber)
      ->type_name("FD");
}

}  // namespace

ParsedOptions ParseServerOptions(int argc, const char* const* argv) {
  ParsedOptions parsed;
  CLI::App app(kAbout, "linchpin-server");
  app.footer(kFooter);
  app.get_formatter()->column_width(34);
  AddNetwork(app, parsed.options);
  AddStorage(app, parsed.options);
  AddLimits(app, parsed.options);
  AddProcess(app, parsed.options);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    std::ostringstream text;
    parsed.exit_code = app.exit(error, text, text) == 0 ? 0 : 2;
    parsed.text = text.str();
    return parsed;
  }
  ServerOptions& options = parsed.options;
  if (options.threads == 0) {
    options.threads = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  }
  if (options.max_memory == 0) options.max_memory = MemoryForJobs(MemoryLimit());
  return parsed;
}

}  // namespace linchpin
