#include "option_table.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <type_traits>

#include "CLI/CLI.hpp"
#include "base/status.h"
#include "fmt/format.h"
#include "fmt/ranges.h"

namespace linchpin {
namespace {

using Texts = OptionRow::Texts;

absl::Status Refuse(const std::string& text, std::string_view must) {
  return absl::InvalidArgumentError(fmt::format("\"{}\" is not {}", text, must));
}

absl::Status Parse(const std::string& text, std::string& value) {
  if (text.empty()) return Refuse(text, "a text with something in it");
  value = text;
  return absl::OkStatus();
}

absl::Status Parse(const std::string& text, bool& value) {
  for (const char* yes : {"true", "1", "on", "yes"}) {
    if (text == yes) return value = true, absl::OkStatus();
  }
  for (const char* no : {"false", "0", "off", "no"}) {
    if (text == no) return value = false, absl::OkStatus();
  }
  return Refuse(text, "true or false");
}

std::string Show(const std::string& value) { return value; }
std::string Show(bool) { return {}; }  // every switch is off
std::string Show(const Texts& values) { return fmt::format("{}", fmt::join(values, ",")); }

// A member of ServerOptions: `at` is a lambda that gives it.
template <class At, class ParseOne>
void Bind(OptionRow& row, At at, ParseOne parse) {
  using Value = std::decay_t<decltype(at(std::declval<ServerOptions&>()))>;
  if constexpr (std::is_same_v<Value, Texts>) {
    row.list = true;
    row.set = [at, parse](ServerOptions& options, const Texts& texts) -> absl::Status {
      Texts values(texts.size());
      for (size_t i = 0; i < texts.size(); ++i) RETURN_IF_ERROR(parse(texts[i], values[i]));
      at(options) = std::move(values);
      return absl::OkStatus();
    };
  } else {
    row.set = [at, parse](ServerOptions& options, const Texts& texts) -> absl::Status {
      if (texts.size() != 1) return absl::InvalidArgumentError("it is given more than once");
      return parse(texts[0], at(options));
    };
  }
}

// The kinds of rows: texts and switches, numbers in a range, sizes in bytes, choices.
template <class At>
OptionRow Plain(OptionRow row, At at) {
  Bind(row, at, [](const std::string& text, auto& value) { return Parse(text, value); });
  row.show = [at](const ServerOptions& options) { return Show(at(options)); };
  return row;
}

template <class At>
OptionRow Number(OptionRow row, int least, int most, At at) {
  Bind(row, at, [=](const std::string& text, int& value) -> absl::Status {
    int number = 0;
    const char* const end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, number);
    if (error != std::errc() || stop != end || number < least || number > most) {
      return Refuse(text, fmt::format("a whole number from {} to {}", least, most));
    }
    value = number;
    return absl::OkStatus();
  });
  row.show = [at](const ServerOptions& options) {
    return at(options) < 0 ? std::string() : std::to_string(at(options));
  };
  return row;
}

template <class At>
OptionRow Size(OptionRow row, At at) {
  Bind(row, at, [](std::string text, uint64_t& value) -> absl::Status {
    const absl::Status refusal =
        Refuse(text, "a number of bytes, such as 1073741824, 512MiB or 4G");
    if (text.empty() || std::isdigit(static_cast<unsigned char>(text[0])) == 0) return refusal;
    try {
      if (!CLI::AsSizeValue(/*kb_is_1000=*/false)(text).empty()) return refusal;
    } catch (const CLI::Error&) {
      return refusal;
    }
    return CLI::detail::lexical_cast(text, value) ? absl::OkStatus() : refusal;
  });
  row.show = [at](const ServerOptions& options) {
    return at(options) == 0 ? std::string() : std::to_string(at(options));
  };
  return row;
}

template <class At>
OptionRow Choice(OptionRow row, const Texts& choices, At at) {
  Bind(row, at, [choices](const std::string& text, std::string& value) -> absl::Status {
    if (std::find(choices.begin(), choices.end(), text) == choices.end()) {
      return Refuse(text, fmt::format("one of {}", fmt::join(choices, ", ")));
    }
    value = text;
    return absl::OkStatus();
  });
  row.show = [at](const ServerOptions& options) { return Show(at(options)); };
  return row;
}

#define AT(member) ([](auto& options) -> auto& { return options.member; })

std::vector<OptionRow> NetworkRows() {
  return {
      Plain({"Network", "listen", "ADDR",
             "Where to serve: HOST:PORT, [IPV6]:PORT or unix:/PATH. Plaintext only on a unix "
             "socket or loopback"},
            AT(listen)),
      Plain({"Network", "tls-cert", "FILE",
             "Certificate chain (PEM), for every address but unix sockets; reloaded when it "
             "changes"},
            AT(tls.certificate)),
      Plain({"Network", "tls-key", "FILE", "Its private key (PEM, no pass phrase)"}, AT(tls.key)),
      Plain({"Network", "tls-client-ca", "FILE",
             "Serve only clients with a certificate of this authority (mutual TLS)"},
            AT(tls.client_ca)),
      Plain({"Network", "metrics", "ADDR", "Where Prometheus reads /metrics, HOST:PORT, or off"},
            AT(metrics)),
      Plain({"Network", "push-metrics", "URL",
             "Send the metrics to this Pushgateway, http://HOST:PORT, when the server ends"},
            AT(push_metrics)),
  };
}

std::vector<OptionRow> IdentityRows() {
  return {
      Plain({"Identity", "tls-client-names", "NAME",
             "Serve only clients whose certificate has one of these subject alternative names"},
            AT(gate.certificate_names)),
      Plain({"Identity", "token-keys", "FILE",
             "Take bearer tokens (JWT, RS256 or ES256) of the keys in this JSON Web Key Set, read "
             "again when it changes"},
            AT(gate.token_keys)),
      Plain({"Identity", "token-issuer", "URL", "Issuer that a token must have"},
            AT(gate.token_rules.issuer)),
      Plain({"Identity", "token-audience", "NAME", "Audience that a token must have"},
            AT(gate.token_rules.audience)),
      Number({"Identity", "token-skew-seconds", "SECONDS",
              "How far the issuer's clock may be from this one"},
             0, 3600, AT(gate.token_rules.clock_skew_seconds)),
      Plain(
          {"Identity", "policy", "FILE",
           "What each caller may do (JSON: server/identity/policy.h), read again when it changes"},
          AT(gate.policy)),
      Choice({"Identity", "open-services", "SERVICE",
              "health, reflection, none: what answers callers without an identity, where one "
              "is asked for"},
             {"health", "reflection", "none"}, AT(gate.open)),
  };
}

std::vector<OptionRow> StorageRows() {
  return {
      Plain({"Storage", "read-root", "DIR",
             "Directory that calls may read below. Without roots the server only takes bytes"},
            AT(storage.read_roots)),
      Plain({"Storage", "write-root", "DIR", "Directory that calls may write, and read, below"},
            AT(storage.write_roots)),
      Plain({"Storage", "allow-symlinks", "", "Follow symbolic links that stay beneath a root"},
            AT(storage.allow_symlinks)),
      Plain({"Storage", "read-prefix", "URI",
             "What calls may read over the network: s3://BUCKET/KEY, gs://BUCKET/KEY, "
             "https://HOST/PATH, hf://OWNER/MODEL, and all below it"},
            AT(remote.prefixes.read)),
      Plain({"Storage", "write-prefix", "URI", "What calls may write, and read: s3:// or gs://"},
            AT(remote.prefixes.write)),
      Plain({"Storage", "allow-address", "NETWORK",
             "Address that is not public and may be connected to, such as 10.0.0.0/8"},
            AT(remote.allowed_addresses)),
      Plain({"Storage", "storage-ca", "FILE",
             "Authorities (PEM) that stores' certificates must come from; without it the system's"},
            AT(remote.ca_file)),
      Plain({"Storage", "s3-endpoint", "URL",
             "S3 other than that of AWS: http://HOST:PORT; without it AWS_ENDPOINT_URL_S3. "
             "Credentials come from the environment or files, as for any program of AWS"},
            AT(remote.s3_endpoint)),
      Plain({"Storage", "s3-region", "REGION", "Region of the buckets; without it AWS_REGION"},
            AT(remote.s3_region)),
      Plain({"Storage", "s3-instance-metadata", "",
             "Take credentials from the instance's metadata service where there are no others"},
            AT(remote.s3_instance_metadata)),
      Plain({"Storage", "hub-endpoint", "URL",
             "Hub that hf:// leads to; without it HF_ENDPOINT or https://huggingface.co. HF_TOKEN "
             "is sent to it alone"},
            AT(remote.hub_endpoint)),
  };
}

std::vector<OptionRow> LimitRows() {
  return {
      Number({"Limits", "slots", "JOBS", "Jobs at a time; more are told to come back"}, 1, 1024,
             AT(slots)),
      Number(
          {"Limits", "threads", "THREADS", "Compute threads of one job; 0 is the number of cores"},
          0, 1024, AT(threads)),
      Size({"Limits", "max-memory", "SIZE",
            "Memory for all jobs; without it this machine's or cgroup's limit less what the "
            "server itself needs"},
           AT(max_memory)),
      Size({"Limits", "max-artifact-bytes", "SIZE",
            "Largest model that CompressArtifact takes as bytes"},
           AT(max_artifact_bytes)),
      Plain({"Limits", "scratch-dir", "DIR",
             "Keep what CompressArtifact takes and gives in this directory; without it in memory"},
            AT(scratch_dir)),
      Size({"Limits", "max-scratch", "SIZE",
            "Room for all jobs in the scratch directory; without it what is free there at the "
            "start"},
           AT(max_scratch)),
      Number({"Limits", "idle-seconds", "SECONDS",
              "End a stream whose caller neither sends nor takes anything for so long"},
             1, 3600, AT(idle_seconds)),
  };
}

std::vector<OptionRow> ConnectionRows() {
  return {
      Number({"Connections", "max-streams", "CALLS", "Calls at a time on one connection"}, 1, 1024,
             AT(connections.max_streams)),
      Number({"Connections", "keepalive-seconds", "SECONDS",
              "Ask on a silent connection after so long whether anybody is there"},
             1, 7200, AT(connections.keepalive_seconds)),
      Number({"Connections", "keepalive-timeout", "SECONDS",
              "Close a connection whose other side does not answer that for so long"},
             1, 3600, AT(connections.keepalive_timeout)),
      Number({"Connections", "max-connection-age", "SECONDS",
              "Ask callers to connect again after so long, so that they spread over replicas; "
              "running calls go on"},
             1, 86'400, AT(connections.max_age_seconds)),
  };
}

std::vector<OptionRow> ProcessRows() {
  return {
      Number({"Process", "drain-seconds", "SECONDS",
              "Time for running jobs to finish when told to stop"},
             0, 86'400, AT(drain_seconds)),
      Choice({"Process", "log-level", "LEVEL", "What to log to stderr; info has a line per job"},
             {"debug", "info", "warning", "error", "off"}, AT(log_level)),
      Number({"Process", "exit-with-fd", "FD",
              "Stop when this inherited pipe reaches its end: when who started the server is gone",
              OptionScope::kCommandLine},
             0, 1 << 20, AT(exit_with_fd)),
      Number({"Process", "ready-fd", "FD",
              "Write the addresses as one line to this inherited descriptor once they serve",
              OptionScope::kCommandLine},
             0, 1 << 20, AT(ready_fd)),
  };
}

#undef AT

}  // namespace

absl::Span<const OptionRow> OptionTable() {
  static const auto& table = *[] {
    auto* rows = new std::vector<OptionRow>;
    for (auto& group : {NetworkRows(), IdentityRows(), StorageRows(), LimitRows(), ConnectionRows(),
                        ProcessRows()}) {
      rows->insert(rows->end(), group.begin(), group.end());
    }
    return rows;
  }();
  return table;
}

std::string FlagOf(const OptionRow& row) { return fmt::format("--{}", row.name); }

std::string EnvironmentNameOf(const OptionRow& row) {
  std::string name = "LINCHPIN_" + ConfigKeyOf(row);
  for (char& c : name) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return name;
}

std::string ConfigKeyOf(const OptionRow& row) {
  std::string key(row.name);
  std::replace(key.begin(), key.end(), '-', '_');
  return key;
}

}  // namespace linchpin
