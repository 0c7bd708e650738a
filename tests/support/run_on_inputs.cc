// Runs a model whose linear layers are given what goes into them, so that what one layer rounds
// reaches the next by no other way than its output:
//   run_on_inputs CHECKPOINT IDS FOLDER LENS [ALPHA CALIBRATION]
// IDS is a file of one JSON list of token ids.  LENS is "consumer", the model as its consumers run
// it, or one of the arms of `evaluate --activations`, with SmoothQuant's ALPHA and a file of lists
// of ids.  FOLDER holds a file of float32 [tokens, channels] for every input that is given, named
// as the first weight that reads it; to it are added NAME.own, what the pass had come to by itself,
// and NAME.seen, what the lens made of what was given.  Inputs without a file flow on as they are.
// Standard output is one JSON document: {"inputs": [weights that share one, ..], "loss": nats}. For
// tests that compare them with another implementation's.
#include <algorithm>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <mutex>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"
#include "format/json.h"
#include "pipeline/activation_arms.h"
#include "pipeline/consumer_lens.h"
#include "pipeline/detect.h"
#include "storage/local_storage.h"

namespace linchpin {
namespace {

std::string ReadText(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void WriteFloats(const std::string& path, absl::Span<const float> values) {
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(values.data()),
             static_cast<std::streamsize>(values.size() * sizeof(float)));
}

class ForcingLens : public LinearLens {
 public:
  // `lens` may be null: nothing is rounded.
  ForcingLens(std::unique_ptr<const LinearLens> lens, std::string folder)
      : lens_(std::move(lens)), folder_(std::move(folder)) {}

  absl::StatusOr<std::unique_ptr<const SeenWeight>> Look(const Checkpoint& checkpoint,
                                                         const StoredTensor& weight,
                                                         const RunContext& context) const override {
    if (lens_ == nullptr) return nullptr;
    return lens_->Look(checkpoint, weight, context);
  }

  bool changes_inputs() const override { return true; }

  // `values` is the view's input, which an inner lens looks at.
  void ChangeInput(const LinearInputView& view, absl::Span<float> values) const override {
    if (view.weights.empty()) return;
    const std::string path = folder_ + "/" + std::string(view.weights.front());
    WriteFloats(path + ".own", values);
    const std::string given = ReadText(path);
    if (!given.empty() && given.size() != values.size() * sizeof(float)) {
      std::cerr << path << ": the input has " << values.size() << " elements\n";
      std::exit(1);
    }
    std::copy(given.begin(), given.end(), reinterpret_cast<char*>(values.data()));
    if (lens_ != nullptr && lens_->changes_inputs()) lens_->ChangeInput(view, values);
    WriteFloats(path + ".seen", values);
    const std::lock_guard lock(mutex_);
    inputs_.push_back(std::vector<std::string>(view.weights.begin(), view.weights.end()));
  }

  Json inputs() const { return inputs_; }

 private:
  const std::unique_ptr<const LinearLens> lens_;
  const std::string folder_;
  mutable std::mutex mutex_;
  mutable Json inputs_ = Json::array();
};

absl::StatusOr<std::unique_ptr<const LinearLens>> ArmLens(const Checkpoint& checkpoint,
                                                          const ModelConfig& config,
                                                          const std::string& name, double alpha,
                                                          const std::string& calibration) {
  ASSIGN_OR_RETURN(const Json ids, ParseJson("calibration", calibration, Reason::kTokensInvalid));
  AnalysisOptions options{.activations = true, .smoothing = alpha};
  options.calibration.ids = ids.get<std::vector<std::vector<int32_t>>>();
  ASSIGN_OR_RETURN(const ForwardPass pass, ForwardPass::Open(checkpoint, config));
  ASSIGN_OR_RETURN(const Detection detection, DetectIn(checkpoint, pass, {}, {}));
  ASSIGN_OR_RETURN(const auto arms, ActivationArms(checkpoint, pass, options, detection, {}));
  for (const LensArm& arm : arms) {
    if (arm.name == name) return arm.make();
  }
  return Error(Reason::kOptionInvalid, "LENS", name + " is no arm", "name one");
}

absl::StatusOr<Matrix> AfterLayers(const ForwardPass& pass, const std::vector<int32_t>& ids) {
  ASSIGN_OR_RETURN(Matrix hidden, pass.Embed(ids));
  const std::vector<Lane> lanes = {{&hidden}};
  for (int i = 0; i < pass.layers(); ++i) RETURN_IF_ERROR(pass.RunLayer(i, lanes, {}));
  return hidden;
}

double Mean(const std::vector<float>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

// Of what the lens makes of the model: its loss, and how far it is from the model without.
absl::StatusOr<Json> Scores(const ForwardPass& pass, const ForwardPass& plain,
                            const std::vector<int32_t>& ids) {
  ASSIGN_OR_RETURN(const Matrix hidden, AfterLayers(pass, ids));
  ASSIGN_OR_RETURN(const Matrix plain_hidden, AfterLayers(plain, ids));
  ASSIGN_OR_RETURN(const Head head, pass.LoadHead());
  ASSIGN_OR_RETURN(const Head plain_head, plain.LoadHead());
  const std::vector<ScoreLane> ends = {{&plain_hidden, ids, -1, &plain_head}, {&hidden, ids, 0}};
  ASSIGN_OR_RETURN(const auto scores, head.Score(ends, {}));
  return Json{{"loss", Mean(scores[1].losses)}, {"kl", Mean(scores[1].divergences)}};
}

absl::Status Run(int argc, char** argv) {
  ASSIGN_OR_RETURN(const auto storage, LocalStorage::Create({{"/"}, {}, true}));
  ASSIGN_OR_RETURN(Checkpoint checkpoint, Checkpoint::Open(*storage, argv[1]));
  ASSIGN_OR_RETURN(const CompressionConfig compression, checkpoint.Unpack());
  ASSIGN_OR_RETURN(const ModelConfig config,
                   ModelConfig::Parse("config.json", checkpoint.config_text()));
  ASSIGN_OR_RETURN(const Json ids, ParseJson("ids", ReadText(argv[2]), Reason::kTokensInvalid));
  std::unique_ptr<const LinearLens> lens;
  if (argc == 5) {
    ASSIGN_OR_RETURN(lens, ConsumerLens::Of(checkpoint, compression));
  } else {
    ASSIGN_OR_RETURN(lens,
                     ArmLens(checkpoint, config, argv[4], std::stod(argv[5]), ReadText(argv[6])));
  }
  const ForcingLens forcing(std::move(lens), argv[3]);
  ASSIGN_OR_RETURN(const ForwardPass pass, ForwardPass::Open(checkpoint, config, &forcing));
  ASSIGN_OR_RETURN(const ForwardPass plain, ForwardPass::Open(checkpoint, config));
  ASSIGN_OR_RETURN(Json result, Scores(pass, plain, ids.get<std::vector<int32_t>>()));
  result["inputs"] = forcing.inputs();
  std::cout << result.dump() << "\n";
  return absl::OkStatus();
}

}  // namespace
}  // namespace linchpin

int main(int argc, char** argv) {
  if (argc != 7 && (argc != 5 || std::string(argv[4]) != "consumer")) {
    std::cerr << "usage: run_on_inputs CHECKPOINT IDS FOLDER LENS [ALPHA CALIBRATION]\n";
    return 2;
  }
  const absl::Status status = linchpin::Run(argc, argv);
  if (!status.ok()) std::cerr << status << "\n";
  return status.ok() ? 0 : 1;
}
