#include "forward/forward_pass.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "checkpoint/token_ids.h"
#include "fmt/format.h"
#include "forward/projection.h"

namespace linchpin {
namespace {

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

absl::Status CheckTensors(const Checkpoint& checkpoint,
                          const std::vector<ExpectedTensor>& tensors) {
  for (const ExpectedTensor& tensor : tensors) RETURN_IF_ERROR(CheckTensor(checkpoint, tensor));
  return RefuseDeniedBias(checkpoint, tensors);
}

}  // namespace

ForwardPass::ForwardPass(const Checkpoint& checkpoint, ModelConfig config, const LinearLens* lens)
    : checkpoint_(&checkpoint),
      lens_(lens),
      config_(std::make_unique<const ModelConfig>(std::move(config))),
      tensors_(std::make_unique<const ModelTensors>(checkpoint, *config_)) {}

absl::StatusOr<ForwardPass> ForwardPass::Open(const Checkpoint& checkpoint, ModelConfig config,
                                              const LinearLens* lens) {
  ForwardPass pass(checkpoint, std::move(config), lens);
  RETURN_IF_ERROR(CheckTensors(checkpoint, pass.tensors_->Around()));
  for (int layer = 0; layer < pass.layers(); ++layer) {
    RETURN_IF_ERROR(CheckTensors(checkpoint, pass.tensors_->Layer(layer)));
  }
  for (const ExpectedTensor& expected : pass.tensors_->Layer(0)) {
    ASSIGN_OR_RETURN(const StoredTensor* tensor, checkpoint.Find(expected.name));
    pass.layer_bytes_ += static_cast<uint64_t>(ByteSize(tensor->info).value_or(0));
  }
  return pass;
}

absl::StatusOr<ForwardPass::DownProjRow> ForwardPass::ReadDownProjRow(int layer, int expert,
                                                                      int64_t row) const {
  const LinearTensors down = DownProj(layer, expert);
  ASSIGN_OR_RETURN(const at::Tensor weights, LoadChannel({*checkpoint_, lens_}, down, row));
  ASSIGN_OR_RETURN(const at::Tensor bias, LoadTensor(*checkpoint_, down.bias));
  const auto* begin = weights.data_ptr<float>();
  return DownProjRow{{begin, begin + weights.numel()},
                     bias.defined() ? bias[row].item<float>() : 0.0F};
}

absl::StatusOr<Matrix> ForwardPass::Embed(absl::Span<const int32_t> token_ids) const {
  RETURN_IF_ERROR(CheckTokenIds(token_ids, *config_));
  ASSIGN_OR_RETURN(const StoredTensor* table, checkpoint_->Find(tensors_->Embedding().name));
  const Architecture& family = config_->architecture;
  const float scale =
      family.scale_embedding ? std::sqrt(static_cast<float>(config_->hidden)) : 1.0F;
  Matrix hidden;
  hidden.rows = static_cast<int64_t>(token_ids.size());
  hidden.columns = config_->hidden;
  for (const int32_t id : token_ids) {
    ASSIGN_OR_RETURN(const Matrix row, checkpoint_->ReadRows(*table, id, 1));
    for (const float value : row.data) hidden.data.push_back(value * scale);
  }
  const ExpectedTensor learned = tensors_->LearnedPositions();
  if (learned.name.empty()) return hidden;
  ASSIGN_OR_RETURN(const StoredTensor* positions, checkpoint_->Find(learned.name));
  ASSIGN_OR_RETURN(const Matrix added,
                   checkpoint_->ReadRows(*positions, family.position_offset, hidden.rows));
  std::transform(hidden.data.begin(), hidden.data.end(), added.data.begin(), hidden.data.begin(),
                 std::plus<>());
  return hidden;
}

}  // namespace linchpin
