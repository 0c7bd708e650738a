// Shows the tensors of GGUF files as those of the Hugging Face model.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "checkpoint/gguf_families.h"
#include "checkpoint/gguf_fields.h"
#include "checkpoint/gguf_file.h"
#include "checkpoint/stored_tensor.h"

namespace linchpin {

// Every tensor of the files of a model under the name that transformers gives
// it, its shape in [out, in] order, by file and ascending offset; an expert is a
// tensor of its own.  `fields` are those of the first file.  FEATURE_UNSUPPORTED
// naming a tensor that the family does not have; TENSOR_SHAPE_INVALID for one
// that is not what its name says.
absl::StatusOr<std::vector<StoredTensor>> GgufTensors(const GgufFields& fields,
                                                      absl::Span<const GgufFile> files,
                                                      const GgufFamily& family);

}  // namespace linchpin
