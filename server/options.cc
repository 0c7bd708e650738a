#include "options.h"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <sstream>
#include <thread>

#include "CLI/CLI.hpp"
#include "absl/strings/str_split.h"
#include "base/status.h"
#include "fmt/format.h"
#include "format/json.h"
#include "identity/settings_file.h"
#include "jobs/memory_limit.h"
#include "option_table.h"

namespace linchpin {
namespace {

using Texts = OptionRow::Texts;

constexpr char kAbout[] =
    "linchpin-server: compresses large language models over gRPC without breaking them.\n"
    "Finds a model's super weights, keeps them bit for bit and quantizes the rest.\n";

constexpr char kFooter[] =
    "\n"
    "Every option but --ready-fd and --exit-with-fd can be given in three ways, the first of\n"
    "which wins: on the command line, in the environment (--max-memory as LINCHPIN_MAX_MEMORY),\n"
    "in the file of --config, a JSON object ({\"max_memory\": \"4GiB\", \"listen\": [...]}).\n"
    "Options that take a list may be given again, or separated by commas.\n"
    "SIGTERM and SIGINT drain: health turns NOT_SERVING, new jobs are refused, running ones may\n"
    "finish.\n"
    "\n"
    "Examples:\n"
    "  linchpin-server --read-root /models --write-root /out\n"
    "  linchpin-server --listen unix:/run/linchpin.sock --metrics off --read-root /models\n"
    "  linchpin-server --listen 0.0.0.0:50051 --tls-cert tls.crt --tls-key tls.key \\\n"
    "                  --tls-client-ca ca.crt --read-root /models --write-root /out";

constexpr char kConfigFlag[] = "--config";
constexpr char kConfigVariable[] = "LINCHPIN_CONFIG";

absl::Status Invalid(std::string_view where, std::string_view why) {
  return Error(Reason::kOptionInvalid, where, why, "see linchpin-server --help");
}

Texts Separated(const OptionRow& row, const Texts& texts) {
  if (!row.list) return texts;
  Texts result;
  for (const std::string& text : texts) {
    for (const auto part : absl::StrSplit(text, ',')) result.emplace_back(part);
  }
  return result;
}

absl::Status Set(const OptionRow& row, const std::string& where, const Texts& texts,
                 ServerOptions& options) {
  const absl::Status status = row.set(options, texts);
  return status.ok() ? status : Invalid(where, std::string(status.message()));
}

// A value of the config file as the command line would give it.
absl::StatusOr<std::string> TextOf(const std::string& where, const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number_integer() || value.is_boolean()) return value.dump();
  return Invalid(where, "it is neither a string, a whole number, true nor false");
}

absl::StatusOr<Texts> TextsOf(const OptionRow& row, const std::string& where, const Json& value) {
  Texts texts;
  if (!value.is_array()) {
    ASSIGN_OR_RETURN(texts.emplace_back(), TextOf(where, value));
    return texts;
  }
  if (!row.list) return Invalid(where, "it is a list and takes one value");
  for (const Json& element : value) {
    ASSIGN_OR_RETURN(texts.emplace_back(), TextOf(where, element));
  }
  return texts;
}

absl::StatusOr<Json> ReadConfig(const std::string& file) {
  ASSIGN_OR_RETURN(const std::string text, ReadSettingsFile(file));
  ASSIGN_OR_RETURN(Json config, ParseJson(file, text, Reason::kOptionInvalid));
  if (!config.is_object()) return Invalid(file, "it is not a JSON object");
  return config;
}

// The rows that the config file sets.
absl::Status SetFromConfig(const std::string& file, ServerOptions& options) {
  ASSIGN_OR_RETURN(const Json config, ReadConfig(file));
  for (const auto& [key, value] : config.items()) {
    const auto rows = OptionTable();
    const auto row = std::find_if(rows.begin(), rows.end(), [&key = key](const OptionRow& row) {
      return row.scope == OptionScope::kEverywhere && ConfigKeyOf(row) == key;
    });
    const std::string where = fmt::format("{}: {}", file, key);
    if (row == rows.end()) return Invalid(where, "there is no such setting");
    ASSIGN_OR_RETURN(const Texts texts, TextsOf(*row, where, value));
    RETURN_IF_ERROR(Set(*row, where, texts, options));
  }
  return absl::OkStatus();
}

// From what wins least to what wins most, so that each overrules those before.
absl::Status SetAll(const std::map<std::string_view, Texts>& command_line, std::string config,
                    ServerOptions& options) {
  const char* const named = std::getenv(kConfigVariable);
  if (config.empty() && named != nullptr) config = named;
  if (!config.empty()) RETURN_IF_ERROR(SetFromConfig(config, options));
  for (const OptionRow& row : OptionTable()) {
    const std::string variable = EnvironmentNameOf(row);
    const auto given = command_line.find(row.name);
    const char* const text = std::getenv(variable.c_str());
    if (given != command_line.end()) {
      RETURN_IF_ERROR(Set(row, FlagOf(row), Separated(row, given->second), options));
    } else if (text != nullptr && *text != '\0' && row.scope == OptionScope::kEverywhere) {
      RETURN_IF_ERROR(Set(row, variable, Separated(row, {text}), options));
    }
  }
  return absl::OkStatus();
}

std::string HelpOf(const OptionRow& row) {
  std::string help(row.help);
  if (row.list) help += "; may be given again";
  if (row.scope == OptionScope::kEverywhere) help += " [" + EnvironmentNameOf(row) + "]";
  return help;
}

CLI::Option* AddRow(CLI::App& app, const OptionRow& row, const ServerOptions& defaults) {
  const std::string help = HelpOf(row);  // const, or CLI11 takes it for what a switch sets
  const std::string group(row.group);
  if (row.is_switch()) return app.add_flag(FlagOf(row), help)->group(group);
  return app
      .add_option(
          FlagOf(row), [](const CLI::results_t&) { return true; }, help)
      ->group(group)
      ->type_name(std::string(row.value))
      ->default_str(row.show(defaults))
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

ParsedOptions Ended(int exit_code, std::string text) {
  return {.exit_code = exit_code, .text = std::move(text)};
}

}  // namespace

ParsedOptions ParseServerOptions(int argc, const char* const* argv) {
  ParsedOptions parsed;
  CLI::App app(kAbout, "linchpin-server");
  app.footer(kFooter);
  app.get_formatter()->column_width(30);
  std::string config;
  app.add_option(kConfigFlag, config,
                 std::string("Settings as a JSON object [") + kConfigVariable + "]")
      ->type_name("FILE");
  std::map<std::string_view, CLI::Option*> given;
  for (const OptionRow& row : OptionTable()) given[row.name] = AddRow(app, row, parsed.options);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    std::ostringstream text;
    const int code = app.exit(error, text, text);
    return Ended(code == 0 ? 0 : 2, text.str());
  }
  std::map<std::string_view, Texts> command_line;
  for (const auto& [name, option] : given) {
    if (option->count() > 0) command_line[name] = option->results();
  }
  ServerOptions& options = parsed.options;
  if (const absl::Status status = SetAll(command_line, config, options); !status.ok()) {
    return Ended(2, fmt::format("error: {} [{}]\n", std::string(status.message()),
                                InfoOf(ReasonOf(status)).name));
  }
  if (options.threads == 0) {
    options.threads = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  }
  if (options.max_memory == 0) options.max_memory = MemoryForJobs(MemoryLimit());
  return parsed;
}

}  // namespace linchpin
