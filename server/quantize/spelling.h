// Values of an option and their names, as a table.
#pragma once

#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "base/status.h"
#include "fmt/format.h"
#include "fmt/ranges.h"

namespace linchpin {

template <typename T>
struct Spelling {
  T value;
  std::string_view name;
};

// "unknown" for a value that has none.
template <typename T, size_t kCount>
std::string_view NameIn(const Spelling<T> (&table)[kCount], T value) {
  for (const Spelling<T>& row : table) {
    if (row.value == value) return row.name;
  }
  return "unknown";
}

template <typename T, size_t kCount>
std::vector<std::string_view> NamesIn(const Spelling<T> (&table)[kCount]) {
  std::vector<std::string_view> names;
  for (const Spelling<T>& row : table) names.push_back(row.name);
  return names;
}

// OPTION_INVALID, naming `option`, with the list for an unknown name.
template <typename T, size_t kCount>
absl::StatusOr<T> ParseIn(const Spelling<T> (&table)[kCount], std::string_view option,
                          std::string_view name) {
  for (const Spelling<T>& row : table) {
    if (row.name == name) return row.value;
  }
  return Error(Reason::kOptionInvalid, option, fmt::format("'{}' is not known", name),
               fmt::format("use one of {}", fmt::join(NamesIn(table), ", ")));
}

}  // namespace linchpin
