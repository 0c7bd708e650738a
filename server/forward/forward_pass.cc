#include "forward/forward_pass.h"

#include "fmt/format.h"
#include "forward/layer_tensors.h"
#include "forward/tensor_loading.h"

namespace linchpin {
namespace {

absl::Status CheckLayer(const Checkpoint& checkpoint, const ModelConfig& config, int layer) {
  const std::vector<ExpectedTensor> tensors = LayerTensors(config, layer);
  for (int i = 0; i < kLayerTensorCount; ++i) {
    RETURN_IF_ERROR(CheckTensor(checkpoint, tensors[i]));
    const ExpectedTensor bias = BiasOf(config, static_cast<LayerTensor>(i), tensors[i]);
    if (!bias.name.empty()) RETURN_IF_ERROR(CheckTensor(checkpoint, bias));
  }
  return absl::OkStatus();
}

uint64_t LayerBytes(const Checkpoint& checkpoint, const ModelConfig& config) {
  uint64_t bytes = 0;
  for (const ExpectedTensor& expected : LayerTensors(config, 0)) {
    const auto tensor = checkpoint.Find(expected.name);
    if (tensor.ok()) bytes += static_cast<uint64_t>(ByteSize((*tensor)->info).value_or(0));
  }
  return bytes;
}

}  // namespace

absl::StatusOr<ForwardPass> ForwardPass::Open(const Checkpoint& checkpoint, ModelConfig config) {
  for (const ExpectedTensor& expected :
       {EmbeddingTensor(config), FinalNormTensor(config), OutputTensor(config)}) {
    RETURN_IF_ERROR(CheckTensor(checkpoint, expected));
  }
  for (int layer = 0; layer < config.layers; ++layer) {
    RETURN_IF_ERROR(CheckLayer(checkpoint, config, layer));
  }
  const uint64_t layer_bytes = LayerBytes(checkpoint, config);
  return ForwardPass(checkpoint, std::move(config), layer_bytes);
}

absl::StatusOr<Matrix> ForwardPass::Embed(absl::Span<const int32_t> token_ids) const {
  if (token_ids.empty()) {
    return Error(Reason::kTokensInvalid, "token ids", "there are none", "give at least one id");
  }
  ASSIGN_OR_RETURN(const StoredTensor* table, checkpoint_->Find(EmbeddingTensor(config_).name));
  Matrix hidden;
  hidden.rows = static_cast<int64_t>(token_ids.size());
  hidden.columns = config_.hidden;
  for (const int32_t id : token_ids) {
    if (id < 0 || id >= config_.vocab) {
      return Error(Reason::kTokensInvalid, "token ids",
                   fmt::format("id {} is outside the vocabulary of {}", id, config_.vocab),
                   "use ids of this model's own tokenizer");
    }
    ASSIGN_OR_RETURN(const Matrix row, checkpoint_->ReadRows(*table, id, 1));
    hidden.data.insert(hidden.data.end(), row.data.begin(), row.data.end());
  }
  return hidden;
}

}  // namespace linchpin
