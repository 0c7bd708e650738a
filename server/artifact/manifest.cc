#include "artifact/manifest.h"

#include <utility>

namespace linchpin {
namespace {

// Of the manifest's own form; grows when a reader of the old one would misread the new.
constexpr int kManifestVersion = 1;

Json ToJson(const FileRecord& file) {
  Json json = {{"name", file.name}, {"size", file.size}, {"sha256", nullptr}};
  if (!file.sha256.empty()) json["sha256"] = file.sha256;
  return json;
}

Json ToJson(const std::vector<FileRecord>& files) {
  Json list = Json::array();
  for (const FileRecord& file : files) list.push_back(ToJson(file));
  return list;
}

Json ToJson(const BlockOptions& blocks) {
  return {{"bits", blocks.bits},
          {"run", blocks.run},
          {"tile", blocks.tile},
          {"z", ShortestNumber(blocks.z)}};
}

Json ToJson(const QuantizeOptions& options) {
  Json json = {{"format", std::string(NameOf(options.format))},
               {"scheme", std::string(NameOf(options.scheme))},
               {"group_size", std::string(GroupSizeName(options.group_size))},
               {"asymmetric", options.asymmetric},
               {"scale", std::string(NameOf(options.scale))},
               {"preserve", std::string(NameOf(options.preserve))},
               {"ignore", options.ignore},
               {"include", options.include}};
  if (options.scheme == Scheme::kBlocks) json["blocks"] = ToJson(options.blocks);
  if (options.scheme == Scheme::kPruned) json["sparsity"] = options.sparsity;
  if (options.equalize) json["equalize"] = true;
  if (options.embeddings != 0) json["embeddings"] = options.embeddings;
  if (options.lm_head != 0) json["lm_head"] = options.lm_head;
  return json;
}

Json ToJson(const KeptWeight& kept) {
  const WeightPosition& at = kept.weight.position;
  return {{"tensor", at.tensor},
          {"row", at.row},
          {"column", at.column},
          {"value", ShortestNumber(kept.weight.value)},
          {"stored_value", ShortestNumber(kept.stored_value)},
          {"kept", kept.how},
          {"exact", kept.exact}};
}

Json ToJson(const std::optional<CalibrationRecord>& calibration) {
  if (!calibration) return nullptr;
  return {{"origin", std::string(NameOf(calibration->origin))}, {"tokens", calibration->tokens}};
}

// Weights that are floats, or zero, have none.
bool HasScales(Scheme scheme) {
  const SchemeTraits& traits = TraitsOf(scheme);
  if (traits.codes == CodeKind::kNone) return false;
  return traits.codes != CodeKind::kGgufBlocks || !FindGgufBlockType(traits.gguf_type)->dtype;
}

Json ToJson(const TensorRecord& tensor, const PlanRow& row) {
  Json json = {{"name", tensor.name},           {"action", tensor.action},
               {"kept_because", nullptr},       {"scheme", nullptr},
               {"group_size", nullptr},         {"scale", nullptr},
               {"bytes_in", tensor.bytes_in},   {"bytes_out", tensor.bytes_out},
               {"max_error", tensor.max_error}, {"rms_error", tensor.rms_error},
               {"outputs", Json::array()},      {"sha256", tensor.sha256}};
  if (row.equalized != Equalized::kNo) json["equalized"] = true;
  for (const TensorInfo& output : row.outputs) json["outputs"].push_back(output.name);
  if (row.quantized) {
    json["scheme"] = std::string(NameOf(row.scheme));
    if (row.group_size > 0) json["group_size"] = row.group_size;
    if (HasScales(row.scheme)) json["scale"] = NameOf(row.scale);
  } else {
    json["kept_because"] = row.kept_because;
  }
  return json;
}

Json TensorsOf(const ManifestInput& input) {
  Json list = Json::array();
  const std::vector<TensorRecord>& tensors = input.artifact->tensors;
  for (size_t i = 0; i < tensors.size() && i < input.plan->rows.size(); ++i) {
    list.push_back(ToJson(tensors[i], input.plan->rows[i]));
  }
  return list;
}

}  // namespace

Json BuildManifest(const ManifestInput& input) {
  const Plan& plan = *input.plan;
  Json manifest = Json::object();
  manifest["manifest_version"] = kManifestVersion;
  manifest["tool"] = {{"name", "linchpin"}, {"version", LINCHPIN_VERSION}};
  manifest["source"] = {{"name", input.source_name}, {"files", ToJson(input.source_files)}};
  manifest["options"] = ToJson(plan.options);
  manifest["calibration"] = ToJson(input.calibration);
  manifest["detection"] = nullptr;
  if (input.detection != nullptr) manifest["detection"] = DetectionToJson(*input.detection);
  manifest["super_weights"] = Json::array();
  for (const KeptWeight& kept : input.kept) manifest["super_weights"].push_back(ToJson(kept));
  std::vector<std::string> notes = plan.notes;
  notes.insert(notes.end(), input.artifact->notes.begin(), input.artifact->notes.end());
  manifest["notes"] = std::move(notes);
  manifest["tensors"] = TensorsOf(input);
  manifest["output"] = {{"format", std::string(NameOf(plan.options.format))},
                        {"bytes_in", plan.bytes_in()},
                        {"bytes_out", plan.bytes_out()},
                        {"files", ToJson(input.artifact->files)}};
  return manifest;
}

std::string SerializeManifest(const Json& manifest) {
  return manifest.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace linchpin
