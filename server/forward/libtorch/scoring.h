// What predictions say of their tokens, taken in from one slab of the
// vocabulary after the other, so that no row of logits is ever whole.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "base/run_context.h"
#include "forward/computation.h"
#include "forward/forward_pass.h"
#include "forward/row_products.h"

namespace linchpin {

// A piece of a vocabulary: rows of an output projection.
struct VocabularySlab {
  const WeightReader& reader;
  StoredRows weights;  // [rows, hidden]
  at::Tensor bias;     // [rows], or undefined
  int64_t first = 0;
  double softcap = 0;

  // [positions, rows], of `normed` [positions, hidden], contiguous.
  at::Tensor Logits(const at::Tensor& normed) const;
};

// What is known of a lane's predictions after some slabs, per position.  The
// vocabulary's softmax is kept as a running maximum and the mass below it.
struct Scoring {
  at::Tensor normed;    // [positions, hidden]
  at::Tensor targets;   // [positions], int64
  at::Tensor top;       // largest logit
  at::Tensor mass;      // sum of exp(logit - top)
  at::Tensor chosen;    // the target's logit
  at::Tensor distance;  // sum of exp(r - top of r) (r - logit), r: the reference's
  at::Tensor watched;   // [positions, watched ids], their logits
  size_t head = 0;      // whose slabs it takes

  Scoring(const at::Tensor& hidden, absl::Span<const int32_t> ids, size_t watched_ids, size_t head);
  at::Tensor LogSum() const { return top + mass.log(); }
  // `reference` may be null; `watched` as in Head::Score.
  TokenScores Scores(const Scoring* reference) const;
};

// The lanes' scorings, which take in slabs on the context's threads.
class Scorings {
 public:
  // `of` is parallel to `lanes`.
  Scorings(std::vector<Scoring> of, absl::Span<const ScoreLane> lanes,
           absl::Span<const int32_t> watched);

  Scorings(const Scorings&) = delete;  // its pieces point into it
  Scorings& operator=(const Scorings&) = delete;

  // The same piece of the vocabulary from every head.
  absl::Status Add(const std::vector<VocabularySlab>& slabs, const RunContext& context);
  std::vector<TokenScores> Take() const;

 private:
  // Positions [begin, begin + count) of a lane without reference and of the
  // lanes measured against it.
  struct Piece {
    Scoring* reference;
    std::vector<Scoring*> measured;
    int64_t begin;
    int64_t count;

    at::Tensor Of(const at::Tensor& all) const { return all.narrow(0, begin, count); }
  };

  void AddPiece(const std::vector<VocabularySlab>& slabs, const Piece& piece) const;
  // Takes in a slab's logits; returns what the mass so far was multiplied by.
  at::Tensor AddLogits(const at::Tensor& logits, int64_t first, const Piece& piece,
                       Scoring& lane) const;

  std::vector<Scoring> scorings_;
  std::vector<int> references_;
  std::vector<int32_t> watched_;
  std::vector<Piece> pieces_;
};

}  // namespace linchpin
