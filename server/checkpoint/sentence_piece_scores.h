// The scores of a SentencePiece vocabulary, from the merges of a tokenizer.json.
//
// SentencePiece joins the neighbours that make the token of the best score, be they
// what they may; a tokenizer.json the neighbours that stand first in its list.  The
// two are the same where the list is what transformers makes of scores: all pairs
// of tokens that make a token, those that make the same one together.
// Merges from scores: transformers, convert_slow_tokenizer.py.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace linchpin {

using TokenMerge = std::pair<std::string_view, std::string_view>;

// One score per token, the best 0, ever lower by 1: what merges make in their
// order, then the other plain tokens in theirs; 0 for what is never joined, which
// `plain` is false for.  FEATURE_UNSUPPORTED naming the merge that no scores give.
absl::StatusOr<std::vector<float>> SentencePieceScores(absl::Span<const std::string> tokens,
                                                       const std::vector<bool>& plain,
                                                       absl::Span<const TokenMerge> merges);

}  // namespace linchpin
