// What a caller may choose about quantization, and its spelling.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "quantize/scheme.h"

namespace linchpin {

// Where a group's scale comes from.
enum class ScaleRule {
  // The candidate with the least error of what comes out, each input channel
  // weighed by its mean square (quantize/scale_search.h).
  kImportance,
  // The element of largest magnitude, with its sign, sits on a code that stores
  // it exactly: s = -w_max / 8 for 4 bits.
  kSigned,
  // s = max|w| / 7.5 for 4 bits: what llm-compressor writes.
  kMinMax,
  // As kImportance with all channels weighed alike.
  kMse,
};

// How a super weight survives.  kTensor: its whole tensor stays as it is.
// kScale: its group gets a scale that puts it exactly on a code.  kLora: it is
// left out, and an adapter beside the model puts it back.  kRestore: the same in
// what is written, as dequantized weights only can have it.  kNone: plain
// rounding, for comparison.
enum class Preserve { kTensor, kScale, kLora, kRestore, kNone };

// The blocks of Scheme::kBlocks.
struct BlockOptions {
  int bits = 4;         // 2 .. 8
  int64_t run = 16384;  // elements of a block
  int64_t tile = 0;     // above 0: blocks are tile x tile, and `run` does not count
  float z = 0;          // clips to mean|w| + z std|w|; 0: not
};

// What 2:4 leaves of the weights, and the default of plain pruning.
inline constexpr double kHalf = 0.5;

struct QuantizeOptions {
  Format format = Format::kCompressedTensors;
  Scheme scheme = Scheme::kW4A16;
  // 0: the largest of 128, 64, 32 that divides every row of every quantized
  // tensor, else per channel.  -1: per channel.
  int64_t group_size = 0;
  bool asymmetric = false;  // codes around a zero point per group
  ScaleRule scale = ScaleRule::kImportance;
  // Channels between a norm and the layers that read it are scaled by powers of two
  // that cancel (quantize/equalization.h).
  bool equalize = false;
  Preserve preserve = Preserve::kTensor;
  // Names of modules or tensors, * and ? as in a shell.  What `ignore` matches
  // stays as it is; where `include` names any, so does what it does not match.
  std::vector<std::string> ignore;
  std::vector<std::string> include;
  BlockOptions blocks;  // of Scheme::kBlocks
  // Bits of the embedding and of the output head: 8, or 0 for as they are.  Where
  // one tensor is both (tied), either asks for it.
  int embeddings = 0;
  int lm_head = 0;
  // Of Scheme::kPruned: the part of each tensor's weights that becomes zero.
  double sparsity = kHalf;
  // Path of a GGUF file of the same model, which lends a GGUF output its metadata
  // and tokenizer; empty: none.
  std::string gguf_donor;
};

// Whether anything is chosen by what goes into the layers, so that tokens must run.
bool NeedsImportance(const QuantizeOptions& options);

// OPTION_INVALID, naming what to choose instead, for choices that do not go together.
absl::Status CheckOptions(const QuantizeOptions& options);

// What stands in for ScaleRule::kImportance where nothing is known of the inputs:
// signed, or minmax where codes are asymmetric or GGUF's.
ScaleRule ScaleWithoutImportance(const QuantizeOptions& options);

// "w4a16", "signed", "tensor", ...; OPTION_INVALID with the list for an unknown name.
std::string_view NameOf(ScaleRule rule);
std::string_view NameOf(Preserve preserve);
absl::StatusOr<ScaleRule> ParseScaleRule(std::string_view name);
absl::StatusOr<Preserve> ParsePreserve(std::string_view name);
// "auto", "channel", "32", "64", "128" to the values of QuantizeOptions::group_size,
// and back; "unknown" for any other number.
absl::StatusOr<int64_t> ParseGroupSize(std::string_view text);
std::string_view GroupSizeName(int64_t group_size);

// All of them, in the order in which they are listed to a caller.
std::vector<std::string_view> ScaleRuleNames();
std::vector<std::string_view> PreserveNames();

}  // namespace linchpin
