// Reads JSON that may be anything: what is missing, or of another kind, reads as
// nothing, so that whoever shows a document need not check every step.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "fmt/format.h"
#include "nlohmann/json.hpp"

namespace linchpin {

// A place in a document, which must outlive it.
class JsonValue {
 public:
  explicit JsonValue(const nlohmann::ordered_json* json) : json_(json) {}

  JsonValue operator[](const char* key) const {
    if (json_ == nullptr || !json_->is_object()) return JsonValue(nullptr);
    const auto found = json_->find(key);
    return JsonValue(found == json_->end() ? nullptr : &*found);
  }
  bool exists() const { return json_ != nullptr && !json_->is_null(); }
  bool is_object() const { return exists() && json_->is_object(); }
  std::vector<JsonValue> Items() const {
    std::vector<JsonValue> items;
    if (!exists() || !json_->is_array()) return items;
    for (const auto& item : *json_) items.emplace_back(&item);
    return items;
  }
  // NaN for what is no number.
  double Number() const {
    return exists() && json_->is_number() ? json_->get<double>()
                                          : std::numeric_limits<double>::quiet_NaN();
  }
  // A text as it stands; a number with the digits it needs; "yes" or "no"; "-" for nothing.
  std::string Text() const {
    if (!exists()) return "-";
    if (json_->is_string()) return json_->get<std::string>();
    if (json_->is_boolean()) return json_->get<bool>() ? "yes" : "no";
    if (json_->is_number_integer()) return fmt::format("{}", json_->get<int64_t>());
    return json_->is_number() ? fmt::format("{:.6g}", Number()) : "-";
  }

 private:
  const nlohmann::ordered_json* json_;
};

}  // namespace linchpin
