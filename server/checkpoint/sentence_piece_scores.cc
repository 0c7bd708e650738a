#include "checkpoint/sentence_piece_scores.h"

#include <cstddef>
#include <unordered_map>
#include <unordered_set>

#include "base/status.h"
#include "checkpoint/tokenizer_fields.h"
#include "fmt/format.h"

namespace linchpin {
namespace {

constexpr size_t kLongestJoined = 256;  // bytes; no published vocabulary comes near

class Scores {
 public:
  Scores(absl::Span<const std::string> tokens, const std::vector<bool>& plain)
      : tokens_(tokens), plain_(plain), scores_(tokens.size(), 0), scored_(tokens.size(), false) {
    for (size_t id = 0; id < tokens.size(); ++id) ids_.emplace(tokens[id], id);
  }

  // Tokens in the order in which merges make them.
  absl::Status AddMerges(absl::Span<const TokenMerge> merges) {
    std::string last;
    for (const auto& [left, right] : merges) {
      const std::string joined = fmt::format("{}{}", left, right);
      const auto id = ids_.find(joined);
      if (id == ids_.end() || !pairs_.emplace(Pair(left, right)).second) {
        return NotForGguf(
            fmt::format("its merge of \"{}\" and \"{}\" stands twice or makes no "
                        "token",
                        left, right));
      }
      if (joined == last) continue;
      if (scored_[id->second]) {
        return NotForGguf(
            fmt::format("its merges that make \"{}\" do not stand together, as "
                        "those of SentencePiece do",
                        joined));
      }
      SetNext(id->second);
      last = joined;
    }
    return absl::OkStatus();
  }

  // Any two neighbours that make a plain token would be joined.
  absl::Status CheckComplete() const {
    for (size_t id = 0; id < tokens_.size(); ++id) {
      const std::string_view token = tokens_[id];
      if (!plain_[id]) continue;
      if (token.size() > kLongestJoined) {
        return NotForGguf(fmt::format("it has a token of {} bytes", token.size()));
      }
      for (size_t at = 1; at < token.size(); ++at) {
        const std::string_view left = token.substr(0, at);
        const std::string_view right = token.substr(at);
        if (!ids_.contains(left) || !ids_.contains(right)) continue;
        if (pairs_.contains(Pair(left, right))) continue;
        return NotForGguf(
            fmt::format("it does not merge \"{}\" and \"{}\", which SentencePiece "
                        "would join",
                        left, right));
      }
    }
    return absl::OkStatus();
  }

  std::vector<float> Take() {
    for (size_t id = 0; id < tokens_.size(); ++id) {
      if (plain_[id] && !scored_[id]) SetNext(id);
    }
    return std::move(scores_);
  }

 private:
  static std::string Pair(std::string_view left, std::string_view right) {
    return fmt::format("{} {}{}", left.size(), left, right);
  }

  void SetNext(size_t id) {
    scores_[id] = -static_cast<float>(next_++);
    scored_[id] = true;
  }

  absl::Span<const std::string> tokens_;
  const std::vector<bool>& plain_;
  std::vector<float> scores_;
  std::vector<bool> scored_;
  size_t next_ = 0;
  std::unordered_map<std::string_view, size_t> ids_;
  std::unordered_set<std::string> pairs_;
};

}  // namespace

absl::StatusOr<std::vector<float>> SentencePieceScores(absl::Span<const std::string> tokens,
                                                       const std::vector<bool>& plain,
                                                       absl::Span<const TokenMerge> merges) {
  Scores scores(tokens, plain);
  RETURN_IF_ERROR(scores.AddMerges(merges));
  RETURN_IF_ERROR(scores.CheckComplete());
  return scores.Take();
}

}  // namespace linchpin
