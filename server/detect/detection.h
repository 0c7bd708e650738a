// What a detection found, as plain data: the result of detect/, a part of the
// manifest, and what the service sends.
//
// Terms: a super activation is a huge value at (token, channel) that a layer
// adds to the residual stream and that stays there; a super weight is the
// scalar of a down_proj that makes it (Yu et al., arXiv 2411.07191).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "detect/study.h"
#include "tensor/weight_position.h"

namespace linchpin {

// From the proof alone; without one kUnproven.
enum class WeightClass { kUnproven, kCritical, kJoint, kInert };
std::string_view NameOf(WeightClass weight_class);  // "unproven", "critical", ...

enum class Verdict { kUnproven, kSingle, kSeveral, kDistributed, kNone };
std::string_view NameOf(Verdict verdict);

// What makes a super activation: kWeights where a few products of the onset
// layer's down_proj explain its output; kNormGain where the norm after the MLP
// does; kBias where that projection's bias does; kAttention where the jump is
// not the MLP's; kMany where none of them.
enum class Carrier { kWeights, kMany, kBias, kAttention, kNormGain };
std::string_view NameOf(Carrier carrier);

// The element of largest magnitude of some activation.
struct Peak {
  int64_t token = 0;
  int64_t channel = 0;
  float value = 0;  // signed
};

struct SuperWeight {
  WeightPosition position;
  int layer = 0;
  int expert = -1;  // -1: the layer's one MLP, or the expert that every token goes through
  float value = 0;
  int64_t token = 0;      // where its super activation was seen
  float input = 0;        // down_proj input at (token, column)
  float output = 0;       // down_proj output at (token, row)
  float share = 0;        // of what all down_projs give there, by input x value
  float norm_gain = 1;    // of the norm after the MLP at this channel, over its median; 1: no norm
  float persistence = 0;  // of its super activation, 0 .. 1
  int64_t rank = 0;       // of |value| in its matrix, 1 = largest
  int round = 0;          // peel round that found it, from 0
  // What its weights alone say (weight_prior.h), 1 = largest; 0: not asked.
  int64_t weight_only_rank = 0;         // of its row among the rows of its matrix
  int64_t weight_only_column_rank = 0;  // of itself within that row
  std::optional<double> agreement;      // part of the prompts that found it; of one: none
  bool published = false;               // others, too, have found it in this model
  WeightClass weight_class = WeightClass::kUnproven;
};

struct SuperActivation {
  int64_t token = 0;
  int64_t channel = 0;
  float peak = 0;         // signed, the largest |value| over the layers
  float over_median = 0;  // |peak| over the median |h| of that layer
  int onset_layer = 0;
  float persistence = 0;
  float norm_gain = 1;  // as of a super weight
  Carrier carrier = Carrier::kMany;
};

// Maxima of one expert in the untouched model.
struct DownProjRecord {
  int expert = -1;
  Peak input;
  Peak output;
};

// Maxima of one layer in the untouched model.
struct LayerRecord {
  int layer = 0;
  Peak down_proj_input;
  Peak down_proj_output;  // of all experts where there are any
  Peak residual;
  float residual_median_abs = 0;
  std::vector<DownProjRecord> experts;  // those that a token reached, ascending
  std::vector<int> unreached;           // the others: nothing is known of them
};

// An expert whose output stands out in a layer that forms a super activation
// ("Unveiling Super Experts in Mixture-of-Experts LLMs", arXiv 2507.23279).
struct SuperExpert {
  int layer = 0;
  int expert = 0;
  Peak output;             // of its down_proj, before the routing weight
  float over_largest = 0;  // |output| over the largest of any expert
};

// A row of a down_proj that its weights alone make suspicious (weight_prior.h).
struct Suspect {
  WeightPosition position;  // the row, and the column that has most of its score
  int layer = 0;
  int expert = -1;
  float value = 0;
  double score = 0;        // U of the row
  double over_median = 0;  // over the median U of the rows of its matrix
  double share = 0;        // of U^2, by that column
};

// What one prompt of several found.
struct PromptRecord {
  std::string name;  // "given", "ids", "prose", "code", "prose without BOS", ...
  std::vector<int32_t> token_ids;
  std::vector<WeightPosition> found;
};

struct Stability {
  std::vector<PromptRecord> prompts;  // the first is the detection's own
  // Of the sets that the prompts found with the detection's own: what both have
  // over what either has (Jaccard), on average; 1 where both found nothing.
  double agreement = 1;
};

// Perplexity with some weights changed, against the untouched model.
struct ProofArm {
  std::vector<PinnedWeight> changed;  // and the values put in their place
  double loss = 0;                    // nats per predicted token
  double perplexity_ratio = 1;        // exp(loss - baseline loss)
  double interval_low = 1;            // bootstrap over tokens, 95 %
  double interval_high = 1;
  // Divergence of its predictions from the untouched model's (Kullback-Leibler);
  // nats per predicted token.
  double kl = 0;
  double kl_low = 0;  // as of the ratio
  double kl_high = 0;
};

enum class ProofLevel { kNone, kJoint, kFull };
std::string_view NameOf(ProofLevel level);  // "none", "joint", "full"

// What a proof ran on.  On ids that are no text a model's loss says little, and
// its divergence is judged in place of it: exp(kl) is the perplexity ratio on
// text that is distributed as the untouched model's predictions.
enum class TokenOrigin { kGiven, kBuiltInText, kBuiltInIds };
std::string_view NameOf(TokenOrigin origin);  // "given", "built_in_text", "built_in_ids"

struct Proof {
  ProofLevel level = ProofLevel::kJoint;
  TokenOrigin origin = TokenOrigin::kGiven;
  std::string no_text_because;  // of kBuiltInIds: what is wrong with the tokenizer
  int windows = 0;
  int64_t tokens = 0;  // predicted tokens
  double baseline_loss = 0;
  double baseline_perplexity = 0;
  std::vector<ProofArm> alone;    // one per super weight, in their order
  std::optional<ProofArm> joint;  // all zeroed together
  std::vector<ProofArm> null;     // as many weights, like in magnitude, of the same matrices
  // Level full, one per super weight in their order: all but it zeroed; and at
  // the mean of its row in place of zero, alone and all together.
  std::vector<ProofArm> leave_one_out;
  std::vector<ProofArm> mean_alone;
  std::optional<ProofArm> mean_joint;
};

// The rules of a detection and the numbers they use; printed with every result.
struct DetectOptions {
  float peak_over_median = 50;       // a super activation is at least so many times the median |h|;
  float made_peak_over_median = 20;  // or so many, where the MLP of its onset adds
  float made_over_median = 40;       // at least so many times the median of what it adds;
  float peak_over_largest = 0.10F;   // and this part of the model's largest
  float keep_fraction = 0.5F;        // persistent: keeps this part of its peak
  float keep_layers = 0.5F;          // on this part of the later layers
  float min_later = 0.1F;            // of the model's layers must follow, one at least; 0: none
  int left_out = 1;                  // last layers that are no evidence: they spike on their own
  float min_jump = 0.5F;             // the MLP's part of the jump at the onset
  float min_change = 0.2F;           // of the peak: other layers that add so much make it, too
  int max_contributors = 4;          // products that may explain an output
  float explain_low = 0.80F;         // their sum over the output, at least
  float explain_high = 1.25F;        // and at most
  int64_t top_weights = 1000;        // |W| must be among so many of its matrix,
  float top_weight_fraction = 0.002F;  // and among this part of it,
  float weight_over_column = 8;        // and so many times the median |W| of its column
  int top_inputs = 10;                 // |X| among so many of its token
  // Of the output, when first seen, and of the largest output of any token at
  // that channel: what is chance at one token may be all of another's.
  float min_share = 0.35F;
  // Where a norm follows the MLP:
  float output_over_median = 10;  // the token's output stands out before the norm already,
  float gain_over_median = 10;    // or else this gain is what makes the activation
  // Of super experts: the quantile of all outputs, and the part of the largest, that theirs pass.
  float expert_quantile = 0.995F;
  float expert_over_largest = 0.1F;
  int max_rounds = 8;  // of the peel
  // Proof.
  int null_draws = 4;
  double critical_ratio = 1.5;
  double critical_interval = 1.2;
  double joint_factor = 1.5;
};

// A super weight that others found.
struct PublishedWeight {
  int layer = 0;
  int64_t row = 0;
  std::optional<int64_t> column;  // not always said
};

// What is published of the model.
struct Published {
  std::optional<std::string> model;      // its name on the hub, if it is one of theirs
  std::vector<PublishedWeight> missing;  // published, and not found here
};

struct Detection {
  Verdict verdict = Verdict::kUnproven;
  std::vector<SuperWeight> super_weights;
  std::vector<SuperActivation> super_activations;
  std::vector<SuperExpert> super_experts;
  std::vector<LayerRecord> layers;
  std::optional<Stability> stability;            // where several prompts were asked for
  std::optional<std::vector<Suspect>> suspects;  // where weights alone were asked for
  std::optional<Proof> proof;
  std::optional<Study> study;
  std::vector<int32_t> prompt;
  Published published;
  DetectOptions options;
};

// The weights that a quantizer must keep.
std::vector<PinnedWeight> PinnedWeights(const Detection& detection);

}  // namespace linchpin
