#include "checkpoint/config_fields.h"

#include <cmath>

namespace linchpin {

const Json* ConfigFields::Find(std::string_view key) const {
  const auto member = object_.find(std::string(key));
  return member == object_.end() || member->is_null() ? nullptr : &*member;
}

absl::StatusOr<std::optional<bool>> ConfigFields::Bool(std::string_view key) const {
  const Json* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean()) return Invalid(key, "must be true or false");
  return value->get<bool>();
}

absl::StatusOr<std::optional<std::string>> ConfigFields::Text(std::string_view key) const {
  const Json* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) return Invalid(key, "must be a string");
  return value->get<std::string>();
}

absl::StatusOr<std::optional<int64_t>> ConfigFields::Integer(std::string_view key, int64_t low,
                                                             int64_t high) const {
  const Json* value = Find(key);
  if (value == nullptr) return std::nullopt;
  const bool huge = value->is_number_unsigned() && value->get<uint64_t>() > INT64_MAX;
  if (!value->is_number_integer() || huge || value->get<int64_t>() < low ||
      value->get<int64_t>() > high) {
    return Invalid(key, fmt::format("must be a whole number from {} to {}", low, high));
  }
  return value->get<int64_t>();
}

absl::StatusOr<std::optional<double>> ConfigFields::Positive(std::string_view key) const {
  const Json* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number() || !std::isfinite(value->get<double>()) || value->get<double>() <= 0) {
    return Invalid(key, "must be a finite number above 0");
  }
  return value->get<double>();
}

absl::StatusOr<const Json*> ConfigFields::Object(std::string_view key) const {
  const Json* value = Find(key);
  if (value != nullptr && !value->is_object()) return Invalid(key, "must be an object");
  return value;
}

absl::Status ConfigFields::Invalid(std::string_view key, std::string_view why) const {
  return Error(Reason::kConfigInvalid, file_, fmt::format("{} {}", key, why), kMalformedRemedy);
}

absl::Status ConfigFields::Unsupported(std::string_view key, std::string_view why,
                                       std::string_view remedy) const {
  return Error(Reason::kFeatureUnsupported, file_, fmt::format("{} {}", key, why), remedy);
}

}  // namespace linchpin
