// Strict JSON: what a hostile file may not do to us.
//
// Two ways to read one text: as a tree (ParseJson) or value by value
// (ReadJson with a JsonReader), which needs no memory of its own and therefore
// suits files of which everything but a few fields is noise.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/status.h"
#include "nlohmann/json.hpp"

namespace linchpin {

// What a caller can do about a file whose content is malformed.
inline constexpr std::string_view kMalformedRemedy = "mend the file or fetch it again";

// Keeps the order of keys, so that a file that is carried over stays readable as a diff.
// Finding a key is linear: iterate over large objects instead.
using Json = nlohmann::ordered_json;

inline constexpr int kMaxJsonDepth = 64;
inline constexpr size_t kMaxJsonValues = 4'000'000;

// Parses one whole document.  Refused with `reason`, naming `file` and the byte
// where it stands: malformed text, trailing bytes, invalid UTF-8, a duplicate
// key within one object, nesting deeper than 64, more than 4,000,000 values (a
// value takes many times the memory of its text).  Never throws.
absl::StatusOr<Json> ParseJson(std::string_view file, std::string_view text, Reason reason);

// Hears the values of a document in their order.  Refuses everything; a
// subclass overrides what its format allows.
class JsonReader : public nlohmann::json_sax<Json> {
 public:
  // `what` goes into errors: the file, and where known the entry within.
  JsonReader(std::string_view file, Reason reason) : file_(file), reason_(reason) {}

  bool null() override { return FailUnexpected("null"); }
  bool boolean(bool) override { return FailUnexpected("a boolean"); }
  bool number_integer(number_integer_t) override { return FailUnexpected("a negative number"); }
  bool number_unsigned(number_unsigned_t) override { return FailUnexpected("a number"); }
  bool number_float(number_float_t, const string_t&) override {
    return FailUnexpected("a number that is not a whole one of 64 bits");
  }
  bool string(string_t&) override { return FailUnexpected("a string"); }
  bool binary(binary_t&) override { return FailUnexpected("binary"); }
  bool start_object(size_t) override { return FailUnexpected("an object"); }
  bool key(string_t&) override { return FailUnexpected("a key"); }
  bool end_object() override { return FailUnexpected("an end of object"); }
  bool start_array(size_t) override { return FailUnexpected("an array"); }
  bool end_array() override { return FailUnexpected("an end of array"); }
  bool parse_error(size_t position, const std::string& token,
                   const nlohmann::detail::exception& error) final;

  const absl::Status& status() const { return status_; }

 protected:
  // Where in the file the reader stands, for errors: the file, or the file and an entry.
  virtual std::string Where() const { return file_; }
  // Keep the first failure and end the reading; always false.
  bool Fail(std::string_view why);
  bool Fail(absl::Status status);
  bool FailUnexpected(std::string_view value);

  const std::string& file() const { return file_; }

 private:
  std::string file_;
  Reason reason_;
  absl::Status status_;
};

// Feeds one whole document to `reader` until it refuses; returns the reader's
// status, or `reason` for malformed text as in ParseJson.  Duplicate keys and
// depth are the reader's to refuse.
absl::Status ReadJson(std::string_view file, std::string_view text, Reason reason,
                      JsonReader& reader);

}  // namespace linchpin
