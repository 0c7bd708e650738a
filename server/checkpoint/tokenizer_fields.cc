#include "checkpoint/tokenizer_fields.h"

#include "base/status.h"
#include "fmt/format.h"

namespace linchpin {

Json MemberOf(const Json& object, const char* key, Json otherwise) {
  if (!object.is_object()) return otherwise;
  const auto member = object.find(key);
  return member == object.end() || member->is_null() ? otherwise : *member;
}

std::string TextOf(const Json& object, const char* key) {
  const Json member = MemberOf(object, key);
  return member.is_string() ? member.get<std::string>() : "";
}

absl::Status NotForGguf(std::string_view why) {
  return Error(Reason::kFeatureUnsupported, kTokenizerFile,
               fmt::format("it cannot be written into a GGUF file with certainty: {}", why),
               "name a GGUF file of the same model as donor of metadata and tokenizer "
               "(--gguf-donor), or choose another format");
}

}  // namespace linchpin
