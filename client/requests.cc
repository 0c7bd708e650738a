#include "client/requests.h"

#include <charconv>
#include <cstdint>
#include <limits>

#include "client/enum_names.h"
#include "client/errors.h"
#include "client/local_files.h"
#include "nlohmann/json.hpp"

namespace linchpin {
namespace {

grpc::Status TokensError(std::string_view file, std::string_view why) {
  return LocalError(grpc::StatusCode::INVALID_ARGUMENT, "TOKENS_INVALID", file, why,
                    "give a JSON array of arrays of token ids, e.g. [[1, 2, 3], [1, 4]]");
}

bool IsId(const nlohmann::json& value) {
  return value.is_number_integer() && value >= 0 && value <= std::numeric_limits<int32_t>::max();
}

int64_t CountOf(std::string_view text) {
  int64_t count = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
  return error == std::errc() && end == text.data() + text.size() ? count : 0;
}

// "16384" elements, or "128x128".
grpc::Status MakeBlockOptions(const QuantizationChoices& choices, v1::BlockOptions& blocks) {
  blocks.set_bits(choices.block_bits);
  blocks.set_z(choices.z);
  const std::string_view text = choices.block;
  const size_t cross = text.find('x');
  const int64_t size = CountOf(text.substr(0, cross));
  const bool tile = cross != std::string_view::npos;
  if (size < 1 || (tile && CountOf(text.substr(cross + 1)) != size)) {
    return LocalError(grpc::StatusCode::INVALID_ARGUMENT, "OPTION_INVALID", "--block",
                      "is neither a number of elements nor a square tile",
                      "write it like 16384 or 128x128");
  }
  if (tile) {
    blocks.set_tile(size);
  } else {
    blocks.set_run(size);
  }
  return grpc::Status::OK;
}

}  // namespace

grpc::Status ParseIds(std::string_view ids, v1::TokenSource& source) {
  v1::TokenSequence* sequence = source.add_sequences();
  const char* at = ids.data();
  const char* const end = ids.data() + ids.size();
  while (true) {
    int32_t id = -1;
    const auto [next, error] = std::from_chars(at, end, id);
    if (error != std::errc() || id < 0 || (next != end && *next != ',')) {
      return LocalError(grpc::StatusCode::INVALID_ARGUMENT, "OPTION_INVALID", "--tokens",
                        "is not a list of token ids", "write it like 1,2,3");
    }
    sequence->add_ids(id);
    if (next == end) return grpc::Status::OK;
    at = next + 1;
  }
}

grpc::Status ParseIdLists(std::string_view file, std::string_view json, v1::TokenSource& source) {
  const auto document = nlohmann::json::parse(json, nullptr, /*allow_exceptions=*/false);
  if (document.is_discarded()) return TokensError(file, "is not JSON");
  if (!document.is_array() || document.empty()) {
    return TokensError(file, "is not an array of arrays, or empty");
  }
  for (const auto& list : document) {
    if (!list.is_array() || list.empty()) return TokensError(file, "has an entry that is no list");
    v1::TokenSequence* sequence = source.add_sequences();
    for (const auto& id : list) {
      if (!IsId(id)) return TokensError(file, "has an entry that is no token id");
      sequence->add_ids(id.get<int32_t>());
    }
  }
  return grpc::Status::OK;
}

grpc::Status ParseThreshold(std::string_view text, Thresholds& thresholds) {
  const size_t equals = text.find('=');
  double value = 0;
  if (equals != std::string_view::npos) {
    const char* const end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data() + equals + 1, end, value);
    if (error == std::errc() && stop == end && equals > 0) {
      thresholds[std::string(text.substr(0, equals))] = value;
      return grpc::Status::OK;
    }
  }
  return LocalError(grpc::StatusCode::INVALID_ARGUMENT, "OPTION_INVALID", "--threshold",
                    "is not a name and a number", "write it like min_share=0.4");
}

grpc::Status MakeTokenSource(const TokenOptions& options, v1::TokenSource& source) {
  if (!options.ids.empty()) return ParseIds(options.ids, source);
  if (!options.text.empty()) source.set_text(options.text);
  if (!options.text_file.empty()) {
    return ReadLocalFile(options.text_file, kMaxRequestBytes, *source.mutable_text());
  }
  if (options.ids_file.empty()) return grpc::Status::OK;
  constexpr uint64_t kMaxJsonBytes = 8 * kMaxRequestBytes;  // ids are shorter on the wire
  std::string json;
  grpc::Status status = ReadLocalFile(options.ids_file, kMaxJsonBytes, json);
  return status.ok() ? ParseIdLists(options.ids_file, json, source) : status;
}

namespace {

grpc::Status ParseThresholds(const LookOptions& look, Thresholds& thresholds) {
  for (const std::string& threshold : look.thresholds) {
    const grpc::Status status = ParseThreshold(threshold, thresholds);
    if (!status.ok()) return status;
  }
  return grpc::Status::OK;
}

// Ids if the file is called so, else a text.
grpc::Status ReadCalibration(const std::string& file, v1::TokenSource& source) {
  TokenOptions tokens;
  (file.ends_with(".json") ? tokens.ids_file : tokens.text_file) = file;
  return MakeTokenSource(tokens, source);
}

}  // namespace

v1::Windows MakeWindows(const WindowOptions& windows) {
  v1::Windows message;
  message.set_size(windows.size);
  message.set_count(windows.count);
  return message;
}

grpc::Status MakeDetectionOptions(const CommandLine& line, v1::DetectionOptions& options) {
  grpc::Status status = MakeTokenSource(line.tokens, *options.mutable_prompt());
  options.set_prompts(line.look.prompts);
  options.set_weights_only(line.look.weights_only);
  options.set_skip(line.look.detection == "off");
  if (status.ok()) status = ParseThresholds(line.look, *options.mutable_thresholds());
  if (!status.ok() || (line.proof.level == "none" && !line.proof.study)) return status;
  options.set_study(line.proof.study);
  options.set_proof(line.proof.level == "full"    ? v1::PROOF_LEVEL_FULL
                    : line.proof.level == "joint" ? v1::PROOF_LEVEL_JOINT
                                                  : v1::PROOF_LEVEL_NONE);
  *options.mutable_proof_windows() = MakeWindows(line.proof.windows);
  return MakeTokenSource(line.proof.tokens, *options.mutable_proof_tokens());
}

grpc::Status MakeQuantizationOptions(const QuantizationChoices& choices,
                                     v1::QuantizationOptions& options) {
  options.set_scheme(SchemeNamed(choices.scheme));
  if (choices.group_size == "channel") {
    options.set_group_size(-1);
  } else if (choices.group_size != "auto") {
    options.set_group_size(std::stoi(choices.group_size));  // one of the listed numbers
  }
  options.set_asymmetric(choices.asymmetric);
  options.set_equalize(choices.equalize);
  options.set_skip_source_digest(choices.source_digest == "off");
  options.set_scale(ScaleRuleNamed(choices.scale));
  options.set_preserve(PreserveNamed(choices.preserve));
  options.set_format(FormatNamed(choices.format));
  const grpc::Status blocks = MakeBlockOptions(choices, *options.mutable_blocks());
  if (!blocks.ok()) return blocks;
  options.set_embeddings(choices.embeddings);
  options.set_lm_head(choices.lm_head);
  if (!choices.prune.empty()) {
    options.mutable_pruning()->set_method(choices.prune == "2:4" ? v1::PRUNING_METHOD_TWO_OF_FOUR
                                                                 : v1::PRUNING_METHOD_MAGNITUDE);
    if (choices.sparsity >= 0) options.mutable_pruning()->set_sparsity(choices.sparsity);
  }
  options.mutable_ignore()->Add(choices.ignore.begin(), choices.ignore.end());
  options.mutable_include()->Add(choices.include.begin(), choices.include.end());
  return choices.calibration_file.empty()
             ? grpc::Status::OK
             : ReadCalibration(choices.calibration_file, *options.mutable_calibration());
}

grpc::Status MakeAnalyses(const CommandLine& line, v1::Analyses& analyses) {
  const AnalysisChoices& choices = line.analyses;
  if (!choices.any()) return grpc::Status::OK;
  analyses.set_arms(choices.arms);
  analyses.set_bits(choices.bits);
  analyses.set_z(choices.z);
  analyses.set_activations(choices.activations);
  analyses.set_smoothing(choices.smoothing);
  analyses.set_awq(choices.awq);
  for (const std::string& block : choices.blocks) {
    const int64_t elements = block == "tensor" ? -1 : CountOf(block);
    if (elements == 0) {
      return LocalError(grpc::StatusCode::INVALID_ARGUMENT, "OPTION_INVALID", "--blocks",
                        "is neither a number of elements nor tensor",
                        "write it like 16384,65536,tensor");
    }
    analyses.add_blocks(elements);
  }
  const grpc::Status status = ParseThresholds(line.look, *analyses.mutable_thresholds());
  return !status.ok() || choices.calibration_file.empty()
             ? status
             : ReadCalibration(choices.calibration_file, *analyses.mutable_calibration());
}

}  // namespace linchpin
