#include "forward/forward_pass.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "base/status.h"
#include "checkpoint/token_ids.h"
#include "forward/checkpoint_weights.h"
#include "forward/computation.h"
#include "forward/libtorch_module.h"
#include "forward/tensor_checks.h"

namespace linchpin {
namespace {

// Tokens of the lanes that run together: the weights are read again for the
// next so many, and so many activations are held.
constexpr int64_t kTokensTogether = 2048;

absl::StatusOr<std::vector<float>> ReadVector(const WeightReader& weights,
                                              const ExpectedTensor& vector) {
  std::vector<float> values(static_cast<size_t>(vector.shape[0]));
  RETURN_IF_ERROR(weights.ReadTensor(vector, absl::MakeSpan(values)));
  return values;
}

}  // namespace

ForwardPass::ForwardPass(const Checkpoint& checkpoint, ModelConfig config, const LinearLens* lens)
    : checkpoint_(&checkpoint),
      config_(std::make_unique<const ModelConfig>(std::move(config))),
      tensors_(std::make_unique<const ModelTensors>(checkpoint, *config_)),
      weights_(ReaderOf(checkpoint, lens)) {}

absl::StatusOr<ForwardPass> ForwardPass::Open(const Checkpoint& checkpoint, ModelConfig config,
                                              const LinearLens* lens) {
  ForwardPass pass(checkpoint, std::move(config), lens);
  RETURN_IF_ERROR(CheckTensors(checkpoint, pass.tensors_->Around()));
  for (int layer = 0; layer < pass.layers(); ++layer) {
    RETURN_IF_ERROR(CheckTensors(checkpoint, pass.tensors_->Layer(layer).All()));
  }
  for (const ExpectedTensor& expected : pass.tensors_->Layer(0).All()) {
    ASSIGN_OR_RETURN(const StoredTensor* tensor, checkpoint.Find(expected.name));
    pass.layer_bytes_ += static_cast<uint64_t>(ByteSize(tensor->info).value_or(0));
  }
  return pass;
}

absl::StatusOr<ForwardPass::DownProjRow> ForwardPass::ReadDownProjRow(int layer, int expert,
                                                                      int64_t row) const {
  const LinearTensors down = DownProj(layer, expert);
  DownProjRow read;
  read.weights.resize(static_cast<size_t>(down.weight.shape[down.transposed ? 0 : 1]));
  RETURN_IF_ERROR(weights_->ReadChannel(down, row, absl::MakeSpan(read.weights)));
  if (down.bias.name.empty()) return read;
  ASSIGN_OR_RETURN(const std::vector<float> biases, ReadVector(*weights_, down.bias));
  read.bias = biases[static_cast<size_t>(row)];
  return read;
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

absl::Status ForwardPass::RunLayer(int index, absl::Span<const Lane> lanes,
                                   const RunContext& context) const {
  ASSIGN_OR_RETURN(const Computation* computation, LoadLibTorch());
  const LayerTensors tensors = tensors_->Layer(index);
  for (size_t first = 0; first < lanes.size();) {
    int64_t tokens = 0;
    size_t end = first;
    do {
      tokens += lanes[end].hidden->rows;
    } while (++end < lanes.size() && tokens + lanes[end].hidden->rows <= kTokensTogether);
    ASSIGN_OR_RETURN(const bool finite,
                     computation->RunLayer({index, *config_, tensors, *weights_},
                                           lanes.subspan(first, end - first), context));
    if (!finite) return NotFinite(*checkpoint_, tensors.All(), index);
    first = end;
  }
  return absl::OkStatus();
}

uint64_t ForwardPass::ActivationBytes(const ModelConfig& config, int64_t longest, int threads) {
  const int64_t width = std::max(
      {config.intermediate, config.experts.intermediate, config.experts.shared_intermediate});
  const int64_t heads = (config.heads + 2 * config.kv_heads) * config.head_dim;
  // Around the layer, from queries to mixed values, and within the MLP, each
  // with the copies that a tap and the operators make.
  const int64_t per_token = 10 * config.hidden + 3 * heads + 4 * width;
  const int64_t together = std::max(longest, kTokensTogether);
  return static_cast<uint64_t>(together * per_token + threads * kAttentionLaneElements) *
         sizeof(float);
}

absl::StatusOr<std::vector<float>> ForwardPass::MlpOutputGain(int layer) const {
  const NormTensors norm = tensors_->MlpOutputNorm(layer);
  if (norm.gain.name.empty()) return std::vector<float>();
  ASSIGN_OR_RETURN(std::vector<float> gain, ReadVector(*weights_, norm.gain));
  if (config_->architecture.norm == NormKind::kRmsPlusOne) {
    for (float& value : gain) value += 1;
  }
  return gain;
}

absl::StatusOr<Head> ForwardPass::LoadHead() const {
  ASSIGN_OR_RETURN(const Computation* computation, LoadLibTorch());
  LinearTensors output = tensors_->Output();
  ASSIGN_OR_RETURN(const StoredTensor* stored, checkpoint_->Find(output.weight.name));
  output.weight.name = stored->info.name;  // by which a lens knows it
  ASSIGN_OR_RETURN(auto head,
                   computation->LoadHead(*config_, tensors_->FinalNorm(), output, weights_));
  return Head(std::move(head));
}

Head::Head(std::unique_ptr<const HeadComputation> computation)
    : computation_(std::move(computation)) {}
Head::Head(Head&&) noexcept = default;
Head& Head::operator=(Head&&) noexcept = default;
Head::~Head() = default;

int64_t Head::vocab() const { return computation_->vocab(); }

absl::StatusOr<std::vector<TokenScores>> Head::Score(absl::Span<const ScoreLane> lanes,
                                                     const RunContext& context,
                                                     absl::Span<const int32_t> watched) const {
  return computation_->Score(lanes, context, watched);
}

absl::StatusOr<std::vector<float>> Head::LastLogits(const Matrix& hidden) const {
  return computation_->LastLogits(hidden);
}

}  // namespace linchpin
