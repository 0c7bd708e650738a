// Typed access to the keys of a `config.json`.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/status.h"
#include "fmt/format.h"
#include "format/json.h"

namespace linchpin {

// Reads the members of one JSON object.  A key that is absent or null has no
// value; one of the wrong type is CONFIG_INVALID naming the file and the key.
class ConfigFields {
 public:
  // `object` must be an object and outlive this.
  ConfigFields(std::string_view file, const Json& object) : file_(file), object_(object) {}

  // The value of `key`, or null if absent or null.
  const Json* Find(std::string_view key) const;

  absl::StatusOr<std::optional<bool>> Bool(std::string_view key) const;
  absl::StatusOr<std::optional<std::string>> Text(std::string_view key) const;
  // A whole number in [low, high].
  absl::StatusOr<std::optional<int64_t>> Integer(std::string_view key, int64_t low,
                                                 int64_t high) const;
  // A finite number above zero.
  absl::StatusOr<std::optional<double>> Positive(std::string_view key) const;
  // The object under `key`.
  absl::StatusOr<const Json*> Object(std::string_view key) const;

  absl::Status Invalid(std::string_view key, std::string_view why) const;
  absl::Status Unsupported(std::string_view key, std::string_view why,
                           std::string_view remedy = {}) const;

 private:
  std::string file_;
  const Json& object_;
};

}  // namespace linchpin
