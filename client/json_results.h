// Results as one JSON document, for --json: snake_case names, numbers as numbers.
#pragma once

#include <string>

#include "linchpin/v1/compression.pb.h"

namespace linchpin {

// Every function returns a whole document that ends in a line break.
std::string CapabilitiesJson(const v1::GetCapabilitiesResponse& capabilities);
std::string PlanJson(const v1::PlanCompressionResponse& plan);
std::string DetectionJson(const v1::DetectionResult& result);  // as the server wrote it
// The manifest stands in it as the server wrote it.
std::string CompressionJson(const v1::CompressionResult& result, const std::string& output);
std::string EvaluationJson(const v1::EvaluationResult& result);
std::string VerificationJson(const v1::VerificationResult& result);
std::string ShardJson(const v1::ShardResult& result, int index);
std::string ShardCountsJson(int finished, int skipped);
std::string DemoModelJson(const v1::CreateDemoModelResponse& response, const std::string& output);

}  // namespace linchpin
