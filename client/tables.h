// Results as a person reads them.  Every function returns whole lines.
#pragma once

#include <string>
#include <vector>

#include "linchpin/v1/compression.pb.h"

namespace linchpin {

// Columns padded to their widest cell, two spaces apart and indented by two; the
// first and the last column are set left, those between, numbers mostly, right.
std::string TableText(const std::vector<std::vector<std::string>>& rows);

std::string CapabilitiesText(const v1::GetCapabilitiesResponse& capabilities);
std::string PlanText(const v1::PlanCompressionResponse& plan);
std::string DetectionText(const v1::Detection& detection);
std::string CompressionText(const v1::CompressionResult& result, const std::string& output);
std::string EvaluationText(const v1::EvaluationResult& result);
std::string VerificationText(const v1::VerificationResult& result);

}  // namespace linchpin
