#include "forward/tensor_checks.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "base/status.h"
#include "fmt/format.h"
#include "forward/row_products.h"

namespace linchpin {
namespace {

absl::Status CheckTensor(const Checkpoint& checkpoint, const ExpectedTensor& expected) {
  if (expected.name.empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const StoredTensor* tensor, checkpoint.Find(expected.name));
  const std::string where = fmt::format(
      "{}: {}", checkpoint.shards()[static_cast<size_t>(tensor->shard)].name, tensor->info.name);
  if (tensor->info.shape != expected.shape) {
    return Error(Reason::kTensorShapeInvalid, where,
                 fmt::format("its shape is {} where config.json demands {}",
                             ShapeText(tensor->info.shape), ShapeText(expected.shape)),
                 "check that config.json belongs to these weights");
  }
  return checkpoint.CheckReadable(*tensor);
}

// A bias that is stored though the config says that there is none would change
// what the model computes.
absl::Status RefuseDeniedBias(const Checkpoint& checkpoint,
                              const std::vector<ExpectedTensor>& tensors) {
  for (const ExpectedTensor& tensor : tensors) {
    if (!tensor.name.ends_with(".weight")) continue;
    std::string bias = tensor.name;
    bias.replace(bias.size() - 6, 6, "bias");
    const auto named = [&bias](const ExpectedTensor& other) { return other.name == bias; };
    if (!checkpoint.Has(bias) || std::any_of(tensors.begin(), tensors.end(), named)) continue;
    return Error(Reason::kConfigInvalid, checkpoint.path(),
                 fmt::format("config.json says that there is no {}, yet it is stored", bias),
                 "check that config.json belongs to these weights");
  }
  return absl::OkStatus();
}

// False if an element of the tensor is NaN or infinite.
absl::StatusOr<bool> IsFinite(const Checkpoint& checkpoint, const ExpectedTensor& expected) {
  ASSIGN_OR_RETURN(const StoredTensor* tensor, checkpoint.Find(expected.name));
  const bool is_matrix = tensor->info.shape.size() > 1;
  const int64_t rows = is_matrix ? tensor->info.shape[0] : 1;
  const int64_t step = is_matrix ? RowsTogether(tensor->info.shape[1]) : 1;
  for (int64_t first = 0; first < rows; first += step) {
    ASSIGN_OR_RETURN(const Matrix slab,
                     checkpoint.ReadRows(*tensor, first, std::min(step, rows - first)));
    const auto finite = [](float value) { return std::isfinite(value); };
    if (!std::all_of(slab.data.begin(), slab.data.end(), finite)) return false;
  }
  return true;
}

}  // namespace

absl::Status CheckTensors(const Checkpoint& checkpoint,
                          const std::vector<ExpectedTensor>& tensors) {
  for (const ExpectedTensor& tensor : tensors) RETURN_IF_ERROR(CheckTensor(checkpoint, tensor));
  return RefuseDeniedBias(checkpoint, tensors);
}

absl::Status NotFinite(const Checkpoint& checkpoint, const std::vector<ExpectedTensor>& tensors,
                       int layer) {
  for (const ExpectedTensor& tensor : tensors) {
    ASSIGN_OR_RETURN(const bool finite, IsFinite(checkpoint, tensor));
    if (finite) continue;
    return Error(Reason::kNotFinite, fmt::format("layer {}, {}", layer, tensor.name),
                 "it holds a NaN or an infinite value",
                 "fetch the checkpoint again; compress keeps it with --detection off and --ignore");
  }
  return Error(Reason::kNotFinite, fmt::format("layer {}", layer),
               "its output is not finite though its weights are: its activations overflow",
               "check the layers before it, and the tokens");
}

}  // namespace linchpin
