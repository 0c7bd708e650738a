// The settings of linchpin-server as a table: one row each, from which the
// command line, the environment, the config file and `--help` follow.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "options.h"

namespace linchpin {

// Who may set a setting: everybody, or the command line alone (what only makes
// sense for the process that starts this one).
enum class OptionScope { kEverywhere, kCommandLine };

// One setting.  `name` is "max-memory": --max-memory on the command line,
// LINCHPIN_MAX_MEMORY in the environment, "max_memory" in the config file.
struct OptionRow {
  using Texts = std::vector<std::string>;

  std::string_view group;  // the heading in --help
  std::string_view name;
  std::string_view value;  // what it takes, with its unit: "SIZE", "SECONDS"; empty for a switch
  std::string_view help;
  OptionScope scope = OptionScope::kEverywhere;
  bool list = false;  // may be given again; commas separate where there is one text only
  // Takes the texts, one unless it is a list; the error says what they must be.
  std::function<absl::Status(ServerOptions&, const Texts&)> set;
  // What it is now, as `set` takes it; empty where the default needs words.
  std::function<std::string(const ServerOptions&)> show;

  bool is_switch() const { return value.empty(); }
};

// All rows, by group.
absl::Span<const OptionRow> OptionTable();

// The setting's name elsewhere: "--max-memory", "LINCHPIN_MAX_MEMORY", "max_memory".
std::string FlagOf(const OptionRow& row);
std::string EnvironmentNameOf(const OptionRow& row);
std::string ConfigKeyOf(const OptionRow& row);

}  // namespace linchpin
