// What a job will need, from headers and options alone: what admission
// reserves.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "base/run_context.h"
#include "checkpoint/checkpoint.h"
#include "pipeline/compress.h"
#include "pipeline/detect.h"
#include "pipeline/evaluate.h"
#include "pipeline/tokens.h"
#include "storage/storage.h"

namespace linchpin {

// Tokens that go through a model, as far as options tell: a text has no more
// tokens than bytes.
struct TokenLoad {
  bool forward = true;   // whether there is a forward pass at all
  int64_t prompt = 0;    // of the prompt, whose trace is kept
  int64_t others = 0;    // of the built-in prompts beside it, whose traces are kept, too
  int64_t longest = 0;   // of the longest sequence that is measured
  int64_t measured = 0;  // of all sequences, times the models that they go through
  int64_t gathered = 0;  // whose inputs of a layer's down_projs are kept
  // Of all memory, in bytes: what a caller allows (0: as much as suits), and what a
  // job should keep to where it can.
  uint64_t allowed = 0;
  uint64_t preferred = 0;
  uint64_t per_writer = 0;  // what the output holds for each thread: OutputBytesPerThread
};

TokenLoad LoadOf(const DetectRequest& request);
TokenLoad LoadOf(const CompressOptions& options);  // with the tokens beside the detection
TokenLoad LoadOf(const TokenSource& tokens, const WindowOptions& windows);
TokenLoad LoadOf(const EvaluateRequest& request);

// Bytes that an output at `destination` holds for each thread that writes to it, beside
// what the thread has: in an object store the parts that are put together.
uint64_t OutputBytesPerThread(std::string_view destination);

// What a job works with, which sets its memory: threads, and the slab of a tensor that
// each holds.
struct WorkingSet {
  int threads = 1;
  int64_t slab_bytes = RunContext().slab_bytes;
};

// Bytes at the peak of a job: the largest decoder layer in float32 beside one of
// its tensors as stored, a slab of the output head, the encoders' slabs, what
// the libraries take, and what `load` needs: the prompt's trace, the residual
// streams held at once (detect/arms.h) and the activations of one layer.
uint64_t EstimateMemory(const Checkpoint& checkpoint, const WorkingSet& set,
                        const TokenLoad& load = {});

// The fastest working set of at most so many threads that keeps to what `load`
// allows; smaller slabs first, then fewer threads.  OPTION_INVALID names the least
// that works.  The output is the same with any.
absl::StatusOr<WorkingSet> FitMemory(const Checkpoint& checkpoint, int threads,
                                     const TokenLoad& load);

// What a job over a source costs, from its headers.
struct SourceSurvey {
  uint64_t memory_bytes = 0;        // EstimateMemory
  WorkingSet set;                   // FitMemory
  uint64_t source_bytes = 0;        // of all tensors, as stored
  std::string fingerprint;          // FingerprintOf
  std::vector<std::string> shards;  // the files of weights, as a plan's rows number them
  // As it was opened, so that a job need not open it again; or null.
  std::shared_ptr<const Checkpoint> checkpoint = nullptr;
};

// The errors of Checkpoint::Open and FitMemory.
absl::StatusOr<SourceSurvey> SurveySource(const Storage& storage, std::string_view source,
                                          int threads, const TokenLoad& load = {});

}  // namespace linchpin
