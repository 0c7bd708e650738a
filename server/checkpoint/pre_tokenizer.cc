#define PCRE2_CODE_UNIT_WIDTH 8

#include "checkpoint/pre_tokenizer.h"

#include <pcre2.h>

#include <array>
#include <utility>

#include "base/status.h"
#include "checkpoint/tokenizer.h"
#include "fmt/format.h"

namespace linchpin {
namespace {

// GPT-2's pattern, which ByteLevel applies when told to use its own.
constexpr char kGpt2Pattern[] =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr size_t kLongestPattern = 1 << 14;
// A pattern of a file is not ours: what it may spend on one match is bounded.
constexpr uint32_t kMatchLimit = 5'000'000;
constexpr uint32_t kHeapLimitKib = 64 * 1024;

absl::Status Unsupported(std::string_view file, std::string_view what) {
  return Error(Reason::kFeatureUnsupported, file,
               fmt::format("pre_tokenizer {} is not built", what), kGiveIds);
}

absl::Status Invalid(std::string_view file, std::string_view why) {
  return Error(Reason::kTokenizerInvalid, file, fmt::format("pre_tokenizer: {}", why),
               kMalformedRemedy);
}

bool Flag(const Json& json, const char* key, bool otherwise) {
  const auto member = json.find(key);
  return member != json.end() && member->is_boolean() ? member->get<bool>() : otherwise;
}

std::string Text(const Json& json, const char* key) {
  const auto member = json.find(key);
  return member != json.end() && member->is_string() ? member->get<std::string>() : "";
}

}  // namespace

std::array<std::string, 256> ByteCharacters() {
  std::array<std::string, 256> characters;
  unsigned next = 0x100;
  for (unsigned byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte != 0xad);
    const unsigned code = printable ? byte : next++;
    if (code < 0x80) {
      characters[byte] = static_cast<char>(code);
    } else {
      characters[byte] = {static_cast<char>(0xc0 | code >> 6),
                          static_cast<char>(0x80 | (code & 0x3f))};
    }
  }
  return characters;
}

class TextPattern {
 public:
  static absl::StatusOr<std::unique_ptr<TextPattern>> Compile(std::string_view file,
                                                              const std::string& pattern) {
    if (pattern.size() > kLongestPattern) return Invalid(file, "a pattern is too long");
    int error = 0;
    PCRE2_SIZE offset = 0;
    // MULTILINE: in the dialect of these files ^ and $ mean lines.
    pcre2_code* code =
        pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                      PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &error,
                      &offset, nullptr);
    if (code == nullptr) {
      std::array<PCRE2_UCHAR, 128> message = {};
      pcre2_get_error_message(error, message.data(), message.size());
      return Invalid(file, fmt::format("pattern \"{}\": {} at byte {}", pattern,
                                       reinterpret_cast<const char*>(message.data()), offset));
    }
    return std::unique_ptr<TextPattern>(new TextPattern(code));
  }

  // Calls found(begin, end) for each match that is not empty, in order.
  template <class Found>
  absl::Status ForEachMatch(const std::string& text, Found found) const {
    const std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> match(
        pcre2_match_data_create(1, nullptr), &pcre2_match_data_free);
    // The text was checked to be UTF-8; checking it again at each match would
    // take quadratic time.
    constexpr uint32_t kOptions = PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY;
    for (size_t start = 0; start < text.size();) {
      const int result = pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()),
                                     text.size(), start, kOptions, match.get(), limits_.get());
      if (result == PCRE2_ERROR_NOMATCH) break;
      const PCRE2_SIZE* const range = pcre2_get_ovector_pointer(match.get());
      // \K can move the start of a match, even behind its end.
      if (result < 0 || range[0] < start || range[1] <= range[0]) {
        return Error(
            Reason::kTokenizerInvalid, "tokenizer",
            fmt::format("a pattern of its pre_tokenizer cannot be matched (PCRE2 {})", result));
      }
      found(range[0], range[1]);
      start = range[1];
    }
    return absl::OkStatus();
  }

 private:
  explicit TextPattern(pcre2_code* code)
      : code_(code, &pcre2_code_free),
        limits_(pcre2_match_context_create(nullptr), &pcre2_match_context_free) {
    pcre2_set_match_limit(limits_.get(), kMatchLimit);
    pcre2_set_heap_limit(limits_.get(), kHeapLimitKib);
  }

  std::unique_ptr<pcre2_code, decltype(&pcre2_code_free)> code_;
  std::unique_ptr<pcre2_match_context, decltype(&pcre2_match_context_free)> limits_;
};

PreTokenizer::PreTokenizer() = default;
PreTokenizer::PreTokenizer(PreTokenizer&&) noexcept = default;
PreTokenizer& PreTokenizer::operator=(PreTokenizer&&) noexcept = default;
PreTokenizer::~PreTokenizer() = default;

absl::StatusOr<PreTokenizer> PreTokenizer::Parse(std::string_view file, const Json* json) {
  PreTokenizer pre_tokenizer;
  if (json != nullptr && !json->is_null()) RETURN_IF_ERROR(pre_tokenizer.Add(file, *json));
  return pre_tokenizer;
}

absl::Status PreTokenizer::Add(std::string_view file, const Json& json) {
  const std::string type = json.is_object() ? Text(json, "type") : "";
  if (type == "ByteLevel") return AddByteLevel(file, json);
  if (type == "Split") return AddSplit(file, json);
  if (type == "Digits") {
    return AddPattern(file, Kind::kIsolate,
                      Flag(json, "individual_digits", false) ? R"(\p{N})" : R"(\p{N}+)");
  }
  if (type != "Sequence") return Unsupported(file, fmt::format("\"{}\"", type));
  const auto members = json.find("pretokenizers");
  if (members == json.end() || !members->is_array()) {
    return Invalid(file, "Sequence: pretokenizers is missing or not an array");
  }
  for (const Json& member : *members) RETURN_IF_ERROR(Add(file, member));
  return absl::OkStatus();
}

absl::Status PreTokenizer::AddByteLevel(std::string_view file, const Json& json) {
  if (Flag(json, "add_prefix_space", true)) steps_.push_back({Kind::kPrefixSpace, nullptr});
  if (Flag(json, "use_regex", true)) {
    RETURN_IF_ERROR(AddPattern(file, Kind::kIsolate, kGpt2Pattern));
  }
  steps_.push_back({Kind::kMapBytes, nullptr});
  return absl::OkStatus();
}

absl::Status PreTokenizer::AddSplit(std::string_view file, const Json& json) {
  const auto pattern = json.find("pattern");
  const std::string regex =
      pattern != json.end() && pattern->is_object() ? Text(*pattern, "Regex") : "";
  if (regex.empty()) return Unsupported(file, "Split by anything but a Regex");
  const std::string behavior = Text(json, "behavior");
  const bool invert = Flag(json, "invert", false);
  if (behavior == "Isolated") return AddPattern(file, Kind::kIsolate, regex);
  if (behavior == "Removed") {
    return AddPattern(file, invert ? Kind::kKeepMatches : Kind::kDropMatches, regex);
  }
  return Unsupported(file, fmt::format("Split with behavior \"{}\"", behavior));
}

absl::Status PreTokenizer::AddPattern(std::string_view file, Kind kind,
                                      const std::string& pattern) {
  ASSIGN_OR_RETURN(std::unique_ptr<TextPattern> compiled, TextPattern::Compile(file, pattern));
  steps_.push_back({kind, std::move(compiled)});
  return absl::OkStatus();
}

absl::Status PreTokenizer::Apply(const Step& step, std::string word,
                                 std::vector<std::string>& out) {
  if (step.kind == Kind::kPrefixSpace) {
    out.push_back(word.front() == ' ' ? std::move(word) : " " + word);
    return absl::OkStatus();
  }
  if (step.kind == Kind::kMapBytes) {
    static const auto& characters = *new std::array<std::string, 256>(ByteCharacters());
    std::string mapped;
    for (const unsigned char byte : word) mapped += characters[byte];
    out.push_back(std::move(mapped));
    return absl::OkStatus();
  }
  size_t done = 0;
  const auto between = [&](size_t end) {
    if (end > done && step.kind != Kind::kKeepMatches) out.push_back(word.substr(done, end - done));
  };
  RETURN_IF_ERROR(step.pattern->ForEachMatch(word, [&](size_t begin, size_t end) {
    between(begin);
    if (step.kind != Kind::kDropMatches) out.push_back(word.substr(begin, end - begin));
    done = end;
  }));
  between(word.size());
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> PreTokenizer::Split(std::string text) const {
  std::vector<std::string> words;
  if (!text.empty()) words.push_back(std::move(text));
  for (const Step& step : steps_) {
    std::vector<std::string> next;
    for (std::string& word : words) RETURN_IF_ERROR(Apply(step, std::move(word), next));
    words = std::move(next);
  }
  return words;
}

}  // namespace linchpin
