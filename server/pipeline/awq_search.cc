#include "pipeline/awq_search.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <utility>

#include "base/parallel.h"
#include "base/status.h"
#include "fmt/format.h"
#include "forward/row_products.h"
#include "pipeline/calibration.h"
#include "quantize/dense_encoder.h"
#include "quantize/plan.h"

namespace linchpin {
namespace {

constexpr size_t kSteps = 20;
constexpr float kSmallest = 1e-4F;

using Errors = std::array<double, kSteps>;  // by exponent

double ExponentOf(size_t step) { return static_cast<double>(step) / kSteps; }

std::vector<double> MeanMagnitudes(MatrixView input) {
  std::vector<double> means(static_cast<size_t>(input.columns));
  for (int64_t row = 0; row < input.rows; ++row) {
    const absl::Span<const float> values = input.Row(row);
    for (size_t i = 0; i < means.size(); ++i) means[i] += std::fabs(values[i]);
  }
  for (double& mean : means) mean /= static_cast<double>(input.rows);
  return means;
}

std::vector<float> ScalesOf(const std::vector<double>& means, double exponent) {
  std::vector<float> scales;
  for (const double mean : means) {
    scales.push_back(std::max(kSmallest, static_cast<float>(std::pow(mean, exponent))));
  }
  const auto [least, most] = std::minmax_element(scales.begin(), scales.end());
  const float middle = std::sqrt(*most * *least);
  for (float& scale : scales) scale /= middle;
  return scales;
}

// The matrix as 4-bit groups of float32 scales.
absl::StatusOr<PlanRow> RoundingOf(const StoredTensor& weight) {
  const int64_t columns = weight.info.shape[1];
  constexpr int64_t kOctet = 8;
  if (columns % kOctet != 0) {
    return Error(Reason::kFeatureUnsupported, weight.info.name,
                 fmt::format("its rows of {} are no multiple of {}", columns, kOctet),
                 "leave awq out");
  }
  PlanRow row{.source = {.info = weight.info}, .quantized = true, .group_size = columns};
  for (const int64_t group : {32, 64, 128}) {
    if (columns % group == 0) row.group_size = group;
  }
  row.asymmetric = true;
  row.scale = ScaleRule::kMinMax;
  row.source.info.dtype = row.scale_dtype = row.dtype = DType::kF32;
  return row;
}

// Squared errors of the layer's output, summed over some of its rows.
class RowErrors {
 public:
  RowErrors(const SlabEncoder& encoder, MatrixView input,
            const std::vector<std::vector<float>>& scales)
      : encoder_(encoder), input_(input), scales_(scales) {}

  absl::StatusOr<Errors> Of(const Matrix& rows) const {
    Errors errors{};
    for (size_t step = 0; step < kSteps; ++step) {
      Matrix scaled = rows;
      const std::vector<float>& scales = scales_[step];
      for (size_t i = 0; i < scaled.data.size(); ++i) scaled.data[i] *= scales[i % scales.size()];
      std::vector<std::vector<std::byte>> bytes;
      const EncodeError lost = encoder_.Encode(
          0, rows.rows, reinterpret_cast<const std::byte*>(scaled.data.data()), bytes);
      if (lost.first_non_finite >= 0) {
        return Error(Reason::kNotFinite, "awq", "a weight is NaN or infinite",
                     "repair the checkpoint");
      }
      const auto* rounded = reinterpret_cast<const float*>(bytes.front().data());
      for (size_t i = 0; i < scaled.data.size(); ++i) {
        scaled.data[i] = rounded[i] / scales[i % scales.size()] - rows.data[i];
      }
      errors[step] = SquaredOutput(scaled);
    }
    return errors;
  }

 private:
  double SquaredOutput(const Matrix& rows) const {
    std::vector<float> output(static_cast<size_t>(input_.rows * rows.rows));
    MultiplyRows({DType::kF32, reinterpret_cast<const std::byte*>(rows.data.data()), rows.rows,
                  rows.columns},
                 input_.data, input_.rows, output.data(), rows.rows);
    double sum = 0;
    for (const float value : output) sum += static_cast<double>(value) * value;
    return sum;
  }

  const SlabEncoder& encoder_;
  const MatrixView input_;
  const std::vector<std::vector<float>>& scales_;
};

// Copies what goes into the matrices that hold super weights.
class InputTap : public Tap {
 public:
  explicit InputTap(const std::vector<SuperWeight>& weights) : weights_(weights) {}

  void OnDownProj(const DownProjView& view) override {
    const auto holds = [&view](const SuperWeight& weight) {
      return weight.layer == view.layer && weight.expert == view.expert;
    };
    if (std::none_of(weights_.begin(), weights_.end(), holds)) return;
    Matrix& input = inputs[view.expert];
    const int64_t elements = view.input.rows * view.input.columns;
    input.data.insert(input.data.end(), view.input.data, view.input.data + elements);
    input.rows += view.input.rows;
    input.columns = view.input.columns;
  }

  std::map<int, Matrix> inputs;  // of one layer, by expert

 private:
  const std::vector<SuperWeight>& weights_;
};

AwqScale ScaleOf(const AwqSearch& search, const WeightPosition& position) {
  std::vector<float> sorted = search.scales;
  std::sort(sorted.begin(), sorted.end());
  return {.position = position,
          .exponent = search.exponent,
          .scale = search.scales[static_cast<size_t>(position.column)],
          .median_scale = sorted[(sorted.size() - 1) / 2],
          .largest_scale = sorted.back(),
          .error_ratio = search.error_ratio};
}

}  // namespace

absl::StatusOr<AwqSearch> SearchAwqScales(const Checkpoint& checkpoint, const std::string& weight,
                                          MatrixView input, const RunContext& context) {
  ASSIGN_OR_RETURN(const StoredTensor* tensor, checkpoint.Find(weight));
  if (tensor->info.shape[1] != input.columns) {
    return Error(Reason::kFeatureUnsupported, weight,
                 fmt::format("it is stored as {} where its input has {} channels",
                             ShapeText(tensor->info.shape), input.columns),
                 "leave awq out");
  }
  ASSIGN_OR_RETURN(const PlanRow row, RoundingOf(*tensor));
  const std::unique_ptr<SlabEncoder> encoder = MakeDenseEncoder({}, row, /*importance=*/nullptr);
  const std::vector<double> means = MeanMagnitudes(input);
  std::vector<std::vector<float>> scales;
  for (size_t step = 0; step < kSteps; ++step) {
    scales.push_back(ScalesOf(means, ExponentOf(step)));
  }
  const RowErrors errors_of(*encoder, input, scales);
  const int64_t rows = tensor->info.shape[0];
  const auto slabs = static_cast<size_t>((rows + kSlabRows - 1) / kSlabRows);
  std::vector<Errors> errors(slabs);
  RETURN_IF_ERROR(ForEachIndex(context.threads, slabs, [&](size_t slab) -> absl::Status {
    RETURN_IF_ERROR(context.Check());
    const int64_t first = static_cast<int64_t>(slab) * kSlabRows;
    ASSIGN_OR_RETURN(const Matrix part,
                     checkpoint.ReadRows(*tensor, first, std::min(kSlabRows, rows - first)));
    ASSIGN_OR_RETURN(errors[slab], errors_of.Of(part));
    return absl::OkStatus();
  }));
  Errors total{};
  for (const Errors& part : errors) {
    for (size_t step = 0; step < kSteps; ++step) total[step] += part[step];
  }
  const auto best =
      static_cast<size_t>(std::min_element(total.begin(), total.end()) - total.begin());
  return AwqSearch{.exponent = ExponentOf(best),
                   .scales = std::move(scales[best]),
                   .error_ratio = total[0] > 0 ? total[best] / total[0] : 1};
}

absl::StatusOr<std::vector<AwqScale>> AwqScalesOf(const Checkpoint& checkpoint,
                                                  const ForwardPass& pass,
                                                  const Detection& detection,
                                                  const TokenSource& calibration,
                                                  const RunContext& context) {
  ASSIGN_OR_RETURN(Calibration tokens, Calibration::Start(checkpoint, pass, calibration));
  const std::vector<SuperWeight>& weights = detection.super_weights;
  std::vector<AwqScale> found(weights.size());
  InputTap tap(weights);
  const auto after_layer = [&](int layer) -> absl::Status {
    for (const auto& [expert, input] : tap.inputs) {
      const LinearTensors down = pass.DownProj(layer, expert);
      const std::string& name = down.weight.name;
      if (down.transposed) {
        return Error(Reason::kFeatureUnsupported, name, "it is stored [in, out]", "leave awq out");
      }
      ASSIGN_OR_RETURN(const AwqSearch search,
                       SearchAwqScales(checkpoint, name, input.View(), context));
      for (size_t i = 0; i < weights.size(); ++i) {
        if (weights[i].layer != layer || weights[i].expert != expert) continue;
        found[i] = ScaleOf(search, weights[i].position);
      }
    }
    tap.inputs.clear();
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(tokens.Run(pass, tap, context, after_layer));
  // An expert that no token reached.
  std::erase_if(found, [](const AwqScale& scale) { return scale.position.tensor.empty(); });
  return found;
}

}  // namespace linchpin
