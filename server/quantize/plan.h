// The plan: what becomes of every tensor, fixed before a weight is read.
//
// A table, not a chain of branches: one row per stored tensor of the source, in
// the source's order, with the tensors it becomes in the output.  Everything
// downstream (sizes, layout, memory, manifest) follows from it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/gguf_template.h"
#include "quantize/options.h"
#include "tensor/importance.h"
#include "tensor/tensor_info.h"
#include "tensor/weight_position.h"

namespace linchpin {

// Whether channels are scaled by powers of two (equalization.h): of a layer, or by the inverse
// of the norm that it reads.
enum class Equalized { kNo, kLayer, kNorm };

struct PlanRow {
  StoredTensor source;
  bool quantized = false;
  // Why a tensor is kept as it is: "embedding", "norm", "super weight", ...;
  // empty if it is quantized.
  std::string kept_because;
  Scheme scheme = Scheme::kW4A16;
  // Elements per scale along a row; the row's length where per channel; 0 if
  // not quantized.
  int64_t group_size = 0;
  bool asymmetric = false;
  ScaleRule scale = ScaleRule::kSigned;  // by which its scales are made, if it has any
  Equalized equalized = Equalized::kNo;
  DType scale_dtype = DType::kBF16;  // that scales are stored in
  DType dtype = DType::kBF16;        // of what is kept, and of dequantized weights
  // Of a GGUF output: the type of its elements, and how its rows differ from the
  // model's.
  std::optional<RowEncoding> gguf = std::nullopt;
  // Super weights of this tensor that `Preserve::kScale` keeps in their group.
  std::vector<PinnedWeight> pinned;
  // Super weights that are zero in what is encoded: `kLora` and `kRestore`.
  std::vector<PinnedWeight> held_out;
  // What the output holds in its place: the tensor itself where it is kept,
  // else what the format has for a quantized one (PackedTensors).
  std::vector<TensorInfo> outputs;

  // The dtype that its weights are read as: F32 where they are stored otherwise.
  DType read_dtype() const;
  uint64_t bytes_in() const;
  uint64_t bytes_out() const;
};

// An embedding or output head that is quantized.
struct OuterLayer {
  std::string module;      // by the family's name, under which consumers know it
  bool looked_up = false;  // by token id, where it is no linear layer
};

struct Plan {
  QuantizeOptions options;     // as asked for
  int64_t group_size = 0;      // resolved: 32, 64, 128, or -1 for per channel
  DType dtype = DType::kBF16;  // of the model: what most of its weights have
  std::vector<PlanRow> rows;
  std::vector<PinnedWeight> super_weights;   // as given, kept or not
  std::vector<std::string> ignored_modules;  // linear layers kept as they are, sorted
  std::vector<OuterLayer> outer;             // quantized besides the blocks'
  // What a person should know, e.g. a fall-back from scale to tensor.
  std::vector<std::string> notes;

  uint64_t bytes_in() const;
  uint64_t bytes_out() const;
};

// The linear layers of the blocks (linear_layers.h) become quantized, experts among
// them;
// embeddings, lm_head, routers, norms and biases stay, and so does a layer whose
// rows the scheme cannot pack, one that `ignore` or `include` leaves out, and
// with them the layers that consumers fuse with it.
// Every linear layer that stays is ignored by name, as is lm_head.
// Embedding and output head are quantized where asked for (quantize/outer_layers.h).
// The group does not depend on the super weights, so that a plan made before a
// detection has the group of the one made after it.  Nor do sizes depend on
// `importance`; where it is given (not null), layers that it lacks fall back to
// the signed rule (min-max if asymmetric), with a note.
//
// `pattern` is what a GGUF output follows: the source itself, or a donor.
//
// The errors of CheckOptions and ModelConfig::Parse; OPTION_INVALID names the
// first tensor whose rows a given group size does not divide, or a pattern that
// matches nothing; TENSOR_MISSING and TENSOR_SHAPE_INVALID a super weight that is
// not in the checkpoint; TENSOR_SHAPE_INVALID an output name that the source has
// already; FEATURE_UNSUPPORTED a source with nothing to quantize, or for GGUF one
// that is no GGUF file and has no donor.  A super weight that
// `kScale` cannot keep exactly (two in one group that no common scale fits, a
// scale that leaves the dtype's range) makes its tensor fall back to `kTensor`,
// with a note; a super weight of an expert is kept by its scale where it can be,
// as `kTensor` would keep every expert of its layer.
absl::StatusOr<Plan> MakePlan(const Checkpoint& checkpoint, const QuantizeOptions& options,
                              absl::Span<const PinnedWeight> super_weights,
                              const Importance* importance = nullptr,
                              const GgufTemplate* pattern = nullptr);

// "model.layers.0.mlp.up_proj.weight" -> "model.layers.0.mlp.up_proj".
std::string ModuleOf(std::string_view tensor);

}  // namespace linchpin
