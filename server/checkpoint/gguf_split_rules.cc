#include "checkpoint/gguf_split_rules.h"

#include <algorithm>
#include <array>
#include <string>

namespace linchpin {
namespace {

constexpr std::string_view kByteLevel =
    R"({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true})";
constexpr std::string_view kDigitsThenByteLevel =
    R"({"type": "Sequence", "pretokenizers": [
        {"type": "Digits", "individual_digits": true},
        {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}]})";
constexpr std::string_view kSplitThenByteLevel =
    R"({"type": "Sequence", "pretokenizers": [
        {"type": "Split", "behavior": "Isolated", "invert": false, "pattern": {"Regex":
         "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}@)"
    R"(| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"}},
        {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}]})";

// Names as in llama.cpp.
constexpr auto kRules = std::to_array<GgufSplitRule>({
    {"gpt-2", kByteLevel},
    {"olmo", kByteLevel},
    {"phi-2", kByteLevel},
    {"smollm", kDigitsThenByteLevel},
    {"starcoder", kDigitsThenByteLevel},
    {"llama-bpe", kSplitThenByteLevel, "{1,3}", true},
    {"llama3", kSplitThenByteLevel, "{1,3}", true},
    {"llama-v3", kSplitThenByteLevel, "{1,3}", true},
    {"dbrx", kSplitThenByteLevel, "{1,3}"},
    {"qwen2", kSplitThenByteLevel, "", false, true},
    {"deepseek-r1-qwen", kSplitThenByteLevel, "", false, true},
    {"stablelm2", kSplitThenByteLevel},
});

Json Member(const Json& object, const char* key, const Json& otherwise) {
  const auto member = object.find(key);
  return member == object.end() || member->is_null() ? otherwise : *member;
}

// Appends the steps of a pre-tokenizer with the settings that decide how it
// splits, what is left out filled in; what is not known as it is.
void AddSteps(const Json& json, Json& steps) {
  const Json type = json.is_object() ? Member(json, "type", "") : Json("");
  if (type == "Sequence" && Member(json, "pretokenizers", {}).is_array()) {
    for (const Json& step : json["pretokenizers"]) AddSteps(step, steps);
  } else if (type == "ByteLevel") {
    steps.push_back(Json::array(
        {type, Member(json, "add_prefix_space", true), Member(json, "use_regex", true)}));
  } else if (type == "Digits") {
    steps.push_back(Json::array({type, Member(json, "individual_digits", false)}));
  } else if (type == "Split") {
    steps.push_back(Json::array({type, Member(json, "behavior", ""), Member(json, "invert", false),
                                 Member(json, "pattern", {})}));
  } else {
    steps.push_back(json);
  }
}

Json StepsOf(const Json& pre_tokenizer) {
  Json steps = Json::array();
  AddSteps(pre_tokenizer, steps);
  return steps;
}

}  // namespace

const GgufSplitRule* FindGgufSplitRule(std::string_view name) {
  const auto* rule = std::find_if(kRules.begin(), kRules.end(),
                                  [&](const GgufSplitRule& each) { return each.name == name; });
  return rule == kRules.end() ? nullptr : rule;
}

const GgufSplitRule* FindGgufSplitRule(const Json& pre_tokenizer, bool ignore_merges) {
  const Json steps = StepsOf(pre_tokenizer);
  const auto* rule = std::find_if(kRules.begin(), kRules.end(), [&](const GgufSplitRule& each) {
    return each.ignore_merges == ignore_merges && StepsOf(PreTokenizerOf(each)) == steps;
  });
  return rule == kRules.end() ? nullptr : rule;
}

Json PreTokenizerOf(const GgufSplitRule& rule) {
  std::string text(rule.pre_tokenizer);
  if (const size_t at = text.find('@'); at != std::string::npos) text.replace(at, 1, rule.digits);
  return Json::parse(text);
}

}  // namespace linchpin
