// The input is a tokenizer.json, a tokenizer_config.json, a chat template and a
// config.json, between NUL bytes.  A vocabulary that is written can be read again, and
// then takes a text apart as the tokenizer.json did.
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "checkpoint/gguf_fields.h"
#include "checkpoint/gguf_tokenizer.h"
#include "checkpoint/gguf_vocabulary.h"
#include "checkpoint/tokenizer.h"
#include "format/gguf.h"
#include "format/gguf_layout.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/invariant.h"

namespace {

// Rows of the embedding.  Few: a token is made for each that has none before anything
// else is looked at, as many as config.json declares (TokenTable::Read).
constexpr int64_t kRows = 300;
constexpr const char* kTexts[] = {"", "ab", "Ab  c\n", " 12 a", "\u00e9\u2581x"};

void CheckRoundTrip(const std::string& tokenizer, const linchpin::GgufPairs& pairs) {
  const auto views = pairs.views();
  const auto layout = linchpin::LayOutGguf("written", views, {});
  INVARIANT(layout.ok());
  const auto header = linchpin::ParseGgufHeader("written", layout->header, layout->file_size);
  INVARIANT(header.ok() && header->has_value());
  const auto text = linchpin::GgufTokenizerJson(linchpin::GgufFields("written", **header));
  const auto before = linchpin::Tokenizer::Parse("before", tokenizer);
  if (!text.ok() || !before.ok()) return;
  const auto after = linchpin::Tokenizer::Parse("after", *text);
  INVARIANT(after.ok());
  for (const char* sample : kTexts) {
    const auto ids = before->Encode(sample);
    const auto again = after->Encode(sample);
    INVARIANT(ids.ok() && again.ok() && *ids == *again);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto parts = PartsOf<4>(TextOf(data, size));
  const linchpin::TokenizerFiles files{.tokenizer = std::string(parts[0]),
                                       .settings = std::string(parts[1]),
                                       .chat_template = std::string(parts[2]),
                                       .config = std::string(parts[3])};
  linchpin::GgufPairs pairs;
  std::vector<std::string> notes;
  if (!linchpin::AddGgufVocabulary(files, kRows, pairs, notes).ok()) return 0;
  CheckRoundTrip(files.tokenizer, pairs);
  return 0;
}
