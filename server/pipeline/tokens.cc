#include "pipeline/tokens.h"

#include <algorithm>
#include <utility>

#include "base/status.h"
#include "checkpoint/token_ids.h"
#include "checkpoint/tokenizer.h"
#include "detect/prompt.h"
#include "fmt/format.h"
#include "pipeline/built_in_text.h"

namespace linchpin {
namespace {

absl::StatusOr<std::vector<int32_t>> Tokenize(const Checkpoint& checkpoint,
                                              const std::string& text) {
  ASSIGN_OR_RETURN(const std::string json, checkpoint.TokenizerText());
  ASSIGN_OR_RETURN(const Tokenizer tokenizer, Tokenizer::Parse("tokenizer.json", json));
  return tokenizer.Encode(text);
}

absl::Status CheckSource(const TokenSource& source) {
  if (!source.ids.empty() && !source.text.empty()) {
    return Error(Reason::kOptionInvalid, "tokens", "both ids and text are given", "give one");
  }
  return absl::OkStatus();
}

absl::Status CheckIds(const std::vector<int32_t>& ids, const ModelConfig& config) {
  if (ids.size() > kMaxSequenceTokens) {
    return Error(
        Reason::kTokensInvalid, "tokens",
        fmt::format("a sequence has {} and {} are the most", ids.size(), kMaxSequenceTokens),
        "give shorter sequences, or smaller windows");
  }
  return CheckTokenIds(ids, config);
}

absl::Status CheckWindows(const WindowOptions& windows) {
  if (windows.size >= 2 && windows.count >= 1) return absl::OkStatus();
  return Error(Reason::kOptionInvalid, "window",
               fmt::format("{} windows of {} tokens", windows.count, windows.size),
               "give at least 1 window of at least 2 tokens");
}

std::vector<std::vector<int32_t>> Cut(const std::vector<int32_t>& ids, const ModelConfig& config,
                                      const WindowOptions& windows) {
  const size_t step = static_cast<size_t>(windows.size) - (config.bos ? 1 : 0);
  std::vector<std::vector<int32_t>> cut;
  for (size_t at = 0; at + step <= ids.size() && std::cmp_less(cut.size(), windows.count);
       at += step) {
    std::vector<int32_t>& window = cut.emplace_back();
    if (config.bos) window.push_back(static_cast<int32_t>(*config.bos));
    const auto first = ids.begin() + static_cast<int64_t>(at);
    window.insert(window.end(), first, first + static_cast<int64_t>(step));
  }
  return cut;
}

absl::StatusOr<std::vector<std::vector<int32_t>>> CutText(const Checkpoint& checkpoint,
                                                          const ModelConfig& config,
                                                          const std::string& text,
                                                          const WindowOptions& windows) {
  ASSIGN_OR_RETURN(const std::vector<int32_t> ids, Tokenize(checkpoint, text));
  std::vector<std::vector<int32_t>> cut = Cut(ids, config, windows);
  if (cut.empty()) {
    return Error(
        Reason::kOptionInvalid, "text",
        fmt::format("its {} tokens do not fill one window of {}", ids.size(), windows.size),
        "give more text or a smaller window");
  }
  return cut;
}

// What stands in the way of a text is the tokenizer, not the storage.
bool HasNoText(const absl::Status& status) {
  const Reason reason = ReasonOf(status);
  return reason == Reason::kSourceNotFound || reason == Reason::kTokenizerInvalid ||
         reason == Reason::kFeatureUnsupported || reason == Reason::kTokensInvalid;
}

// NeutralText() in windows that this model can run.
absl::StatusOr<std::vector<std::vector<int32_t>>> CutNeutralText(const Checkpoint& checkpoint,
                                                                 const ModelConfig& config,
                                                                 WindowOptions windows) {
  ASSIGN_OR_RETURN(const std::vector<int32_t> ids,
                   Tokenize(checkpoint, std::string(NeutralText())));
  if (ids.size() < 2) {
    return Error(Reason::kTokensInvalid, "tokenizer.json", "it makes no tokens of a text");
  }
  const auto tokens = static_cast<int64_t>(ids.size()) + (config.bos ? 1 : 0);
  windows.size = static_cast<int>(std::min<int64_t>(windows.size, tokens));
  if (config.max_positions > 0) {
    windows.size = static_cast<int>(std::min<int64_t>(windows.size, config.max_positions));
  }
  std::vector<std::vector<int32_t>> cut = Cut(ids, config, windows);
  for (const std::vector<int32_t>& window : cut) RETURN_IF_ERROR(CheckIds(window, config));
  return cut;
}

// One of the built-in prompts, from 1: the kinds in turn, first with BOS.
absl::StatusOr<NamedPrompt> MakeBuiltInPrompt(const Checkpoint& checkpoint,
                                              const ModelConfig& config, int number) {
  struct Kind {
    std::string_view name;
    std::string_view text;  // empty: ids
  };
  const Kind kinds[] = {{"prose", NeutralText()}, {"code", CodeText()}, {"other ids", ""}};
  constexpr int kKinds = 3;
  // A model without BOS has seen every text by then.
  const bool repeats = number > kKinds && !config.bos;
  const Kind& kind = repeats ? kinds[kKinds - 1] : kinds[(number - 1) % kKinds];
  const bool bos = config.bos.has_value() && number <= kKinds;
  NamedPrompt prompt{std::string(kind.name), {}};
  if (!kind.text.empty()) {
    auto ids = Tokenize(checkpoint, std::string(kind.text));
    if (!ids.ok() && !HasNoText(ids.status())) return ids.status();
    if (ids.ok() && !ids->empty() && CheckIds(*ids, config).ok()) {
      prompt.ids = std::move(ids).value();
    } else {
      prompt.name = "other ids";
    }
  }
  ModelConfig without = config;
  without.bos.reset();
  if (prompt.ids.empty()) {
    prompt.ids = FixedIds(without, kDefaultPromptTokens,
                          static_cast<uint64_t>(number * kDefaultPromptTokens));
  }
  if (bos) {
    prompt.ids.insert(prompt.ids.begin(), static_cast<int32_t>(*config.bos));
  } else if (config.bos) {
    prompt.name += " without BOS";
  }
  if (std::cmp_greater(prompt.ids.size(), kDefaultPromptTokens))
    prompt.ids.resize(kDefaultPromptTokens);
  return prompt;
}

}  // namespace

absl::StatusOr<std::vector<std::vector<int32_t>>> MakeWindows(const Checkpoint& checkpoint,
                                                              const ModelConfig& config,
                                                              const TokenSource& source,
                                                              const WindowOptions& windows) {
  RETURN_IF_ERROR(CheckSource(source));
  if (source.empty()) {
    return Error(Reason::kOptionInvalid, "tokens", "there are none", "give token ids or a text");
  }
  RETURN_IF_ERROR(CheckWindows(windows));
  std::vector<std::vector<int32_t>> result = source.ids;
  if (result.empty()) {
    ASSIGN_OR_RETURN(result, CutText(checkpoint, config, source.text, windows));
  }
  size_t tokens = 0;
  for (const std::vector<int32_t>& window : result) {
    tokens += window.size();
    if (tokens > kMaxTokens) {
      return Error(Reason::kTokensInvalid, "tokens",
                   fmt::format("there are more than {}", kMaxTokens),
                   "give fewer sequences, or fewer windows");
    }
    if (window.size() < 2) {
      return Error(Reason::kTokensInvalid, "token ids", "a sequence has fewer than 2 ids",
                   "a loss needs a token to predict");
    }
    RETURN_IF_ERROR(CheckIds(window, config));
  }
  return result;
}

absl::StatusOr<BuiltInTokens> MakeBuiltInTokens(const Checkpoint& checkpoint,
                                                const ModelConfig& config,
                                                const WindowOptions& windows) {
  constexpr int kFixedWindow = 128;
  constexpr int kFixedWindows = 2;
  RETURN_IF_ERROR(CheckWindows(windows));
  BuiltInTokens tokens;
  auto text = CutNeutralText(checkpoint, config, windows);
  if (text.ok()) {
    tokens.windows = std::move(text).value();
    return tokens;
  }
  if (!HasNoText(text.status())) return text.status();
  tokens.no_text_because = std::string(text.status().message());
  const int size = std::min(windows.size, kFixedWindow);
  for (int i = 0; i < std::min(windows.count, kFixedWindows); ++i) {
    tokens.windows.push_back(FixedIds(config, size, static_cast<uint64_t>(i) * kFixedWindow));
  }
  return tokens;
}

absl::StatusOr<std::vector<int32_t>> MakePrompt(const Checkpoint& checkpoint,
                                                const ModelConfig& config,
                                                const TokenSource& source) {
  RETURN_IF_ERROR(CheckSource(source));
  if (source.empty()) return DefaultPrompt(config);
  std::vector<int32_t> ids;
  if (!source.ids.empty()) {
    ids = source.ids.front();
  } else {
    if (config.bos) ids.push_back(static_cast<int32_t>(*config.bos));
    ASSIGN_OR_RETURN(const std::vector<int32_t> read, Tokenize(checkpoint, source.text));
    ids.insert(ids.end(), read.begin(), read.end());
  }
  RETURN_IF_ERROR(CheckIds(ids, config));
  return ids;
}

absl::StatusOr<std::vector<NamedPrompt>> MakePrompts(const Checkpoint& checkpoint,
                                                     const ModelConfig& config,
                                                     const TokenSource& source, int count) {
  if (count < 1 || count > kMaxPrompts) {
    return Error(Reason::kOptionInvalid, "prompts", fmt::format("{} are asked for", count),
                 fmt::format("give 1 to {}", kMaxPrompts));
  }
  std::vector<NamedPrompt> prompts = {{source.empty() ? "ids" : "given", {}}};
  ASSIGN_OR_RETURN(prompts[0].ids, MakePrompt(checkpoint, config, source));
  for (int i = 1; i < count; ++i) {
    ASSIGN_OR_RETURN(NamedPrompt prompt, MakeBuiltInPrompt(checkpoint, config, i));
    prompts.push_back(std::move(prompt));
  }
  return prompts;
}

}  // namespace linchpin
