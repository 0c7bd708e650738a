// Begins the peel's second run of the model while its first one still goes on.
//
// The second run differs from the first by the weights that are zeroed, from their
// layer on.  Once a spike has stood for some layers, the rules are asked on the
// layers so far which weights they would take; a second lane without these then
// goes along, and one reading of the weights serves both runs.  It is a guess: the
// whole trace decides, and a run without other weights than it says is thrown away.
#pragma once

#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "base/run_context.h"
#include "checkpoint/checkpoint.h"
#include "detect/detection.h"
#include "detect/magnitude.h"
#include "detect/trace.h"
#include "forward/forward_pass.h"

namespace linchpin {

// Of one prompt.  Everything given must outlive it.
class Foresight {
 public:
  // A longer prompt costs more to compute than its weights cost to read.
  static constexpr int64_t kMostTokens = 64;

  Foresight(const Checkpoint& checkpoint, const ForwardPass& pass, const DetectOptions& options,
            Magnitudes& magnitudes)
      : checkpoint_(checkpoint), pass_(pass), options_(options), magnitudes_(magnitudes) {}

  // To be called after each layer of the untouched run.  May run some of the
  // layers up to this one for the second.
  absl::Status Consider(TraceRun& untouched, int layer, const RunContext& context);

  // The second run, which has come as far as the first; null where there is none.
  TraceRun* run() { return run_ ? &*run_ : nullptr; }

  // True, and `trace` holds the second run from its first changed layer on, if
  // it ran without the weights of `edits` and no others.
  bool Fulfils(absl::Span<const DownProjEdit> edits, Trace& trace);

 private:
  // What a second run would leave out, by what stands after `layer`.
  absl::StatusOr<std::vector<DownProjEdit>> Guess(TraceRun& untouched, int layer,
                                                  const RunContext& context);
  // Runs it from the first layer that its edits change, or, where it has run
  // before, from layer `changed`, to `layer`.
  absl::Status CatchUp(const TraceRun& untouched, int changed, int layer,
                       const RunContext& context);

  const Checkpoint& checkpoint_;
  const ForwardPass& pass_;
  const DetectOptions& options_;
  Magnitudes& magnitudes_;
  int guesses_ = 0;
  std::vector<DownProjEdit> edits_;  // by layer, expert, row, column
  Trace trace_;                      // from the first changed layer on
  std::optional<TraceRun> run_;
};

}  // namespace linchpin
