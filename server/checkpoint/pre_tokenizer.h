// Cuts a text into words, which byte-pair encoding then never joins again: the
// `pre_tokenizer` of a tokenizer.json.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "format/json.h"

namespace linchpin {

// GPT-2 shows each byte as a printable character: those of Latin-1 that are
// printable as themselves, the others as U+0100 and up, in order.
std::array<std::string, 256> ByteCharacters();

// A compiled regular expression over Unicode text (PCRE2).  Thread-safe.
class TextPattern;

// ByteLevel, Split and Digits, alone or in a Sequence.  Thread-safe.
class PreTokenizer {
 public:
  // Null or absent (nullptr): the whole text is one word.  TOKENIZER_INVALID,
  // or FEATURE_UNSUPPORTED naming what is not built.
  static absl::StatusOr<PreTokenizer> Parse(std::string_view file, const Json* json);
  PreTokenizer(PreTokenizer&&) noexcept;
  PreTokenizer& operator=(PreTokenizer&&) noexcept;
  ~PreTokenizer();

  // The words of `text`, which is UTF-8, in order; TOKENIZER_INVALID if a
  // pattern needs more time or memory than a sane one.
  absl::StatusOr<std::vector<std::string>> Split(std::string text) const;

 private:
  enum class Kind {
    kIsolate,      // matches and what lies between them are words
    kKeepMatches,  // what lies between them is dropped
    kDropMatches,
    kPrefixSpace,  // a space in front unless there is one
    kMapBytes,     // each byte as the character that stands for it
  };
  struct Step {
    Kind kind;
    std::unique_ptr<TextPattern> pattern;  // null for the last two
  };

  PreTokenizer();
  absl::Status Add(std::string_view file, const Json& json);
  absl::Status AddByteLevel(std::string_view file, const Json& json);
  absl::Status AddSplit(std::string_view file, const Json& json);
  absl::Status AddPattern(std::string_view file, Kind kind, const std::string& pattern);
  static absl::Status Apply(const Step& step, std::string word, std::vector<std::string>& out);

  std::vector<Step> steps_;
};

}  // namespace linchpin
