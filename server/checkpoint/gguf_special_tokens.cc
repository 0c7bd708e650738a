#include "checkpoint/gguf_special_tokens.h"

#include <array>
#include <optional>
#include <string>
#include <utility>

#include "base/status.h"
#include "checkpoint/tokenizer_fields.h"
#include "fmt/format.h"

namespace linchpin {
namespace {

struct SpecialName {
  std::string_view hf;
  std::string_view gguf;
};
constexpr auto kNames = std::to_array<SpecialName>(
    {{"bos", "bos"}, {"eos", "eos"}, {"unk", "unknown"}, {"pad", "padding"}});

// What stands before and behind every text.
struct Around {
  std::optional<uint32_t> bos;  // the ids that may
  std::optional<uint32_t> eos;
  bool adds_bos = false;
  bool adds_eos = false;
};

// A token in tokenizer_config.json is a text, or an object that holds one.
std::string TokenText(const Json& settings, const std::string& key) {
  const Json token = MemberOf(settings, key.c_str());
  return token.is_object() ? TextOf(token, "content") : TextOf(settings, key.c_str());
}

std::optional<uint32_t> IdOf(std::string_view name, const Json& settings, const Json& config,
                             const TokenTable& table) {
  const std::string text = TokenText(settings, fmt::format("{}_token", name));
  if (!text.empty()) return table.Find(text);
  Json id = MemberOf(config, fmt::format("{}_token_id", name).c_str());
  if (id.is_array() && !id.empty()) id = Json(id[0]);
  const bool known = id.is_number_unsigned() && id.get<uint64_t>() < table.tokens().size();
  return known ? std::optional(id.get<uint32_t>()) : std::nullopt;
}

absl::Status NotAround(const Json& processor) {
  return NotForGguf(
      fmt::format("its post_processor puts around a text what is not its beginning or its end: {}",
                  processor.dump()));
}

absl::Status ReadTemplate(const Json& processor, Around& around) {
  bool before = true;
  for (const Json& part : MemberOf(processor, "single", Json::array())) {
    const std::string token = TextOf(MemberOf(part, "SpecialToken"), "id");
    if (token.empty()) {
      if (!before || TextOf(MemberOf(part, "Sequence"), "id") != "A") return NotAround(processor);
      before = false;
      continue;
    }
    const Json known = MemberOf(MemberOf(processor, "special_tokens"), token.c_str());
    const std::optional<uint32_t> expected = before ? around.bos : around.eos;
    bool& adds = before ? around.adds_bos : around.adds_eos;
    if (!expected || MemberOf(known, "ids") != Json::array({*expected}) || adds) {
      return NotAround(processor);
    }
    adds = true;
  }
  return before ? NotAround(processor) : absl::OkStatus();
}

absl::Status ReadProcessor(const Json& processor, Around& around) {
  const std::string type = TextOf(processor, "type");
  if (processor.is_null() || type == "ByteLevel") return absl::OkStatus();
  if (type == "TemplateProcessing") return ReadTemplate(processor, around);
  if (type != "Sequence") return NotAround(processor);
  for (const Json& step : MemberOf(processor, "processors", Json::array())) {
    RETURN_IF_ERROR(ReadProcessor(step, around));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status AddGgufSpecialTokens(const Json& document, const Json& settings, const Json& config,
                                  const TokenTable& table, GgufPairs& pairs) {
  Around around;
  for (const SpecialName& name : kNames) {
    const std::optional<uint32_t> id = IdOf(name.hf, settings, config, table);
    if (id) pairs.Add(fmt::format("tokenizer.ggml.{}_token_id", name.gguf), *id);
    if (name.hf == "bos") around.bos = id;
    if (name.hf == "eos") around.eos = id;
  }
  RETURN_IF_ERROR(ReadProcessor(MemberOf(document, "post_processor"), around));
  for (const auto& [name, adds] :
       {std::pair("bos", around.adds_bos), std::pair("eos", around.adds_eos)}) {
    const std::string key = fmt::format("add_{}_token", name);
    const Json said = MemberOf(settings, key.c_str(), adds);
    if (said != adds) {
      return NotForGguf(fmt::format("tokenizer_config.json says {} {}, its post_processor {}", key,
                                    said.dump(), adds));
    }
    pairs.Add(fmt::format("tokenizer.ggml.{}", key), adds);
  }
  return absl::OkStatus();
}

void AddGgufChatTemplate(std::string_view text, const Json& settings, GgufPairs& pairs) {
  std::string chosen(text);
  const Json given = MemberOf(settings, "chat_template");
  if (chosen.empty() && given.is_string()) chosen = given.get<std::string>();
  if (chosen.empty() && given.is_array()) {
    for (const Json& each : given) {
      if (TextOf(each, "name") == "default") chosen = TextOf(each, "template");
    }
  }
  if (!chosen.empty()) pairs.Add("tokenizer.chat_template", std::string_view(chosen));
}

}  // namespace linchpin
