// What a long computation is told and what it tells: how many threads it may
// use, whether to stop, and how far it is.
#pragma once

#include <cstdint>
#include <stop_token>
#include <string>
#include <string_view>

#include "base/status.h"

namespace linchpin {

// The stages of a job.  Their names are the folder names, the metric labels and
// what a caller reads in a progress message.
enum class Stage { kCheckpoint, kForward, kDetect, kQuantize, kArtifact };
inline constexpr int kStageCount = 5;
std::string_view StageName(Stage stage);

// How far a job is.  `done` and `total` are bytes of source weights within the
// stage; `total` 0 means unknown.
struct Progress {
  Stage stage = Stage::kCheckpoint;
  std::string item;  // the tensor, layer or file in hand
  uint64_t done = 0;
  uint64_t total = 0;
};

// What became of a tensor in an artifact.
enum class TensorAction { kQuantized, kPreserved, kCopied, kEqualized };
inline constexpr int kTensorActionCount = 4;
std::string_view TensorActionName(TensorAction action);

// Hears what a job does.  The calls come from the job's own threads, one at a
// time and in no fixed order; they must return quickly.
class RunObserver {
 public:
  virtual ~RunObserver() = default;
  virtual void OnProgress(const Progress&) {}
  // One stage is over: wall seconds, bytes read from the source and written to the output.
  virtual void OnStageDone(Stage, double /*seconds*/, uint64_t /*read*/, uint64_t /*written*/) {}
  virtual void OnTensor(TensorAction) {}
};

// Passed by reference down the whole path of a job; must outlive it.
struct RunContext {
  std::stop_token stop;
  RunObserver* observer = nullptr;  // may be null
  int threads = 1;                  // compute threads that this job may use, >= 1
  // Bytes of a tensor that a thread takes at a time, as far as whole rows go.
  int64_t slab_bytes = int64_t{4} << 20;

  // OK, or the CANCELLED error once a stop was requested.  Called between row
  // slabs and between layers, so that a cancelled job ends within a second.
  absl::Status Check() const;
  void Report(const Progress& progress) const {
    if (observer != nullptr) observer->OnProgress(progress);
  }
};

}  // namespace linchpin
