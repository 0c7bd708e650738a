#include "checkpoint/gguf_fields.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <set>

#include "base/status.h"
#include "fmt/format.h"
#include "fmt/ranges.h"
#include "format/json.h"

namespace linchpin {
namespace {

double ShortestDecimal(float value) {
  const std::string text = fmt::format("{}", value);
  double result = value;
  std::from_chars(text.data(), text.data() + text.size(), result);
  return result;
}

constexpr std::string_view kUnsupportedRemedy = "give the original checkpoint";

}  // namespace

const GgufValue* GgufFields::Find(std::string_view key) const {
  const auto entry = header_->metadata.find(key);
  return entry == header_->metadata.end() ? nullptr : &entry->second;
}

absl::StatusOr<std::optional<std::string_view>> GgufFields::Text(std::string_view key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return std::nullopt;
  const auto* text = std::get_if<std::string_view>(value);
  if (text == nullptr) return Invalid(key, "must be a string");
  return *text;
}

absl::StatusOr<std::optional<int64_t>> GgufFields::Integer(std::string_view key,
                                                           int64_t high) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return std::nullopt;
  std::optional<int64_t> number;
  if (const auto* natural = std::get_if<uint64_t>(value); natural != nullptr) {
    number = static_cast<int64_t>(std::min<uint64_t>(*natural, INT64_MAX));
  } else if (const auto* whole = std::get_if<int64_t>(value); whole != nullptr) {
    number = *whole;
  } else if (const auto* array = std::get_if<GgufArray>(value); array != nullptr) {
    const auto numbers = array->Integers();
    if (numbers && !numbers->empty()) number = numbers->front();
    if (number && std::set(numbers->begin(), numbers->end()).size() > 1) {
      return Unsupported(key, "differs from layer to layer, which is not built");
    }
  }
  if (!number || *number < 0 || *number > high) {
    return Invalid(key, fmt::format("must be a whole number from 0 to {}", high));
  }
  return number;
}

absl::StatusOr<std::optional<double>> GgufFields::Real(std::string_view key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return std::nullopt;
  double number = NAN;
  if (const auto* single = std::get_if<float>(value)) number = ShortestDecimal(*single);
  if (const auto* wide = std::get_if<double>(value)) number = *wide;
  if (!std::isfinite(number)) return Invalid(key, "must be a finite floating-point number");
  return number;
}

absl::StatusOr<std::optional<double>> GgufFields::Quantity(std::string_view key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (const auto* flag = std::get_if<bool>(value)) return *flag ? 1.0 : 0.0;
  if (std::holds_alternative<float>(*value) || std::holds_alternative<double>(*value)) {
    return Real(key);
  }
  ASSIGN_OR_RETURN(const std::optional<int64_t> number, Integer(key));
  return static_cast<double>(*number);
}

absl::StatusOr<std::optional<GgufArray>> GgufFields::Array(std::string_view key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return std::nullopt;
  const auto* array = std::get_if<GgufArray>(value);
  if (array == nullptr) return Invalid(key, "must be an array");
  return *array;
}

absl::Status GgufFields::Invalid(std::string_view key, std::string_view why) const {
  return Error(Reason::kConfigInvalid, file_, fmt::format("key {} {}", key, why), kMalformedRemedy);
}

absl::Status GgufFields::Unsupported(std::string_view key, std::string_view why) const {
  return Error(Reason::kFeatureUnsupported, file_, fmt::format("key {} {}", key, why),
               kUnsupportedRemedy);
}

std::string GgufKeyOf(const GgufFamily& family, std::string_view key) {
  return fmt::format("{}.{}", family.architecture, key);
}

absl::StatusOr<const GgufFamily*> FindGgufFamily(const GgufFields& fields) {
  ASSIGN_OR_RETURN(const auto architecture, fields.Text("general.architecture"));
  if (!architecture) return fields.Invalid("general.architecture", "is missing");
  std::set<std::string_view> known;
  for (const GgufFamily& family : GgufFamilies()) {
    known.insert(family.architecture);
    if (family.architecture != *architecture) continue;
    if (family.applies_if.empty()) return &family;
    ASSIGN_OR_RETURN(const auto count, fields.Integer(GgufKeyOf(family, family.applies_if)));
    if (count.value_or(0) > 0) return &family;
  }
  return Error(
      Reason::kFamilyUnsupported, fields.file(),
      fmt::format("architecture \"{}\" is not read from GGUF", *architecture),
      fmt::format("supported: {}; or give the original checkpoint", fmt::join(known, ", ")));
}

}  // namespace linchpin
