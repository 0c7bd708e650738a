#include "format/json.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "fmt/format.h"

namespace linchpin {
namespace {

// nlohmann's message without its own prefix and without the text it read last,
// which may be long and need not be UTF-8.
std::string PlainMessage(std::string message) {
  if (const size_t end = message.find("; last read"); end != std::string::npos) message.erase(end);
  if (const size_t start = message.find("] "); start != std::string::npos) {
    message.erase(0, start + 2);
  }
  constexpr size_t kLongest = 200;
  if (message.size() > kLongest) message = "it is not JSON";
  return message;
}

// A key that occurs twice among the members of `object`, or null.
const std::string* DuplicateKey(const Json::object_t& object) {
  std::vector<const std::string*> keys;
  keys.reserve(object.size());
  for (const auto& member : object) keys.push_back(&member.first);
  std::sort(keys.begin(), keys.end(), [](auto* a, auto* b) { return *a < *b; });
  const auto twice =
      std::adjacent_find(keys.begin(), keys.end(), [](auto* a, auto* b) { return *a == *b; });
  return twice == keys.end() ? nullptr : *twice;
}

// Builds the tree.  Our own builder because the library's looks each new key up
// among its siblings one by one: quadratic in what a file chooses.
class TreeBuilder final : public JsonReader {
 public:
  using JsonReader::JsonReader;

  bool null() override { return Add(nullptr); }
  bool boolean(bool value) override { return Add(value); }
  bool number_integer(number_integer_t value) override { return Add(value); }
  bool number_unsigned(number_unsigned_t value) override { return Add(value); }
  bool number_float(number_float_t value, const string_t&) override { return Add(value); }
  bool string(string_t& value) override { return Add(std::move(value)); }
  bool key(string_t& value) override {
    key_ = std::move(value);
    return true;
  }
  bool start_object(size_t) override { return Enter(Json::object()); }
  bool start_array(size_t) override { return Enter(Json::array()); }
  bool end_array() override {
    open_.pop_back();
    return true;
  }
  bool end_object() override {
    const std::string* twice = DuplicateKey(open_.back()->get_ref<const Json::object_t&>());
    open_.pop_back();
    return twice == nullptr || Fail(fmt::format("duplicate key \"{}\"", *twice));
  }

  Json Take() { return std::move(root_); }

 private:
  // Pointers into open_ stay valid: an array or object grows only while it is
  // the innermost open one.
  Json* Place(Json value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    Json& parent = *open_.back();
    if (parent.is_array()) {
      auto& array = parent.get_ref<Json::array_t&>();
      array.push_back(std::move(value));
      return &array.back();
    }
    auto& object = parent.get_ref<Json::object_t&>();
    object.Json::object_t::Container::emplace_back(std::move(key_), std::move(value));
    return &object.back().second;
  }

  bool Add(Json value) {
    if (++count_ > kMaxJsonValues) {
      return Fail(fmt::format("more than {} values", kMaxJsonValues));
    }
    Place(std::move(value));
    return true;
  }

  bool Enter(Json value) {
    if (open_.size() >= kMaxJsonDepth) {
      return Fail(fmt::format("nested deeper than {}", kMaxJsonDepth));
    }
    if (++count_ > kMaxJsonValues) {
      return Fail(fmt::format("more than {} values", kMaxJsonValues));
    }
    open_.push_back(Place(std::move(value)));
    return true;
  }

  Json root_;
  std::vector<Json*> open_;
  std::string key_;
  size_t count_ = 0;
};

}  // namespace

bool JsonReader::Fail(absl::Status status) {
  if (status_.ok()) status_ = std::move(status);
  return false;
}

bool JsonReader::Fail(std::string_view why) {
  return Fail(Error(reason_, Where(), why, kMalformedRemedy));
}

bool JsonReader::FailUnexpected(std::string_view value) {
  return Fail(fmt::format("{} where the format has none", value));
}

bool JsonReader::parse_error(size_t position, const std::string&,
                             const nlohmann::detail::exception& error) {
  return Fail(fmt::format("malformed JSON at byte {}: {}", position, PlainMessage(error.what())));
}

absl::Status ReadJson(std::string_view file, std::string_view text, Reason reason,
                      JsonReader& reader) {
  // The library takes a NUL byte for the end and skips a byte order mark.
  if (const size_t nul = text.find('\0'); nul != std::string_view::npos) {
    return Error(reason, file, fmt::format("malformed JSON at byte {}: a NUL byte", nul + 1),
                 kMalformedRemedy);
  }
  if (text.substr(0, 3) == "\xef\xbb\xbf") {
    return Error(reason, file, "malformed JSON at byte 1: a byte order mark",
                 "save it as UTF-8 without one");
  }
  const bool read = Json::sax_parse(text.begin(), text.end(), &reader);
  if (!read && reader.status().ok()) return Error(reason, file, "malformed JSON", kMalformedRemedy);
  return reader.status();
}

absl::StatusOr<Json> ParseJson(std::string_view file, std::string_view text, Reason reason) {
  TreeBuilder builder(file, reason);
  RETURN_IF_ERROR(ReadJson(file, text, reason, builder));
  return builder.Take();
}

}  // namespace linchpin
