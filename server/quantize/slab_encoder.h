// Turns slabs of rows of a tensor into the bytes of the tensors that replace it.
//
// The one interface between the plan and what writes: an encoder knows the codes,
// a writer where the bytes go.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/types/span.h"

#include "quantize/group_encoder.h"
#include "quantize/plan.h"
#include "tensor/importance.h"

namespace linchpin {

// Of one quantized row of the plan.  Thread-safe.
class SlabEncoder {
 public:
  virtual ~SlabEncoder() = default;

  // So many times all slabs are measured, one at a time and the first time as pass
  // 0, before the first is encoded.
  virtual int passes() const { return 0; }
  virtual void Measure(int pass, int64_t first, int64_t count, const std::byte* weights);

  // Rows [first, first + count) of the tensor, `first` a multiple of kSlabRows,
  // from `weights` in the dtype that they are read as.  Fills bytes[j] with what
  // they add to the plan row's output j, row after row; nothing for an output that
  // is not made of rows.  Not filled where the result has a non-finite weight.
  virtual EncodeError Encode(int64_t first, int64_t count, const std::byte* weights,
                             std::vector<std::vector<std::byte>>& bytes) const = 0;

  // Bytes of the outputs that are not made of rows, by output; else empty.
  virtual std::vector<std::vector<std::byte>> Constants() const = 0;
};

// Rows that some encoders take together: all slabs but the last are whole multiples.
inline constexpr int64_t kSlabRows = 16;

// Of a row that is quantized, or of any row of a GGUF output.  `importance` may be
// null; it and `row` must outlive the result.
std::unique_ptr<SlabEncoder> MakeEncoder(const QuantizeOptions& options, const PlanRow& row,
                                         const Importance* importance);

// How much an error in each input channel of a row's weight counts; empty where
// nobody knows, or the row's rule does not ask.
std::vector<float> ImportanceOf(const PlanRow& row, const Importance* importance);

// The rule by which a group's scale comes about, given what is known.
ScaleRule RuleOf(const PlanRow& row, absl::Span<const float> importance);
// ImportanceOf for the blocks of GGUF's types, normalized as they want it; ones for kMse.
std::vector<float> BlockImportance(const PlanRow& row, const Importance* importance);

// The super weights among rows [first, first + count), counted from `first`.
std::vector<PinnedElement> ElementsIn(const std::vector<PinnedWeight>& weights, int64_t first,
                                      int64_t count);

}  // namespace linchpin
