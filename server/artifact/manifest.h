// `linchpin.json`: the evidence that travels with a compressed model.
//
// Source with digests, options, the detection with its proof, what became of
// every tensor and of every super weight, and the digests of every output file.
// No times, no host names, no paths: the same input and options give the same
// bytes.  Schema: linchpin.schema.json beside this file.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "artifact/artifact_writer.h"
#include "artifact/manifest_claims.h"
#include "detect/detection.h"
#include "format/json.h"
#include "quantize/plan.h"

namespace linchpin {

// The detection as the JSON object of `linchpin detect --json`; `row` is the
// output channel.  What this build does not measure is null.
Json DetectionToJson(const Detection& detection);

// Its part `study`.
Json StudyToJson(const Study& study);

// A float as the shortest decimal that reads back as the same float, null
// where it is not finite.
Json ShortestNumber(float value);

// The tokens that told which input channels matter.
struct CalibrationRecord {
  TokenOrigin origin = TokenOrigin::kGiven;
  int64_t tokens = 0;
};

struct ManifestInput {
  std::string source_name;  // the last component of the source's path
  std::vector<FileRecord> source_files;
  const Plan* plan = nullptr;
  const Detection* detection = nullptr;  // null where there was none
  const ArtifactRecord* artifact = nullptr;
  std::vector<KeptWeight> kept;  // as ArtifactRecord::kept
  std::optional<CalibrationRecord> calibration = std::nullopt;
};

Json BuildManifest(const ManifestInput& input);

// Two-space indented with a newline at the end.
std::string SerializeManifest(const Json& manifest);

// The JSON Schema (draft 2020-12) of the manifest.
std::string_view ManifestSchema();

}  // namespace linchpin
