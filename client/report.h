// Manifests and detections as one page for people: tables, and the figures 3 to 6
// of the super weight paper (arXiv 2411.07191) where there was a study.
//
// The one command that calls no server: it reads what others wrote.
#pragma once

#include <string>
#include <vector>

#include "grpcpp/support/status.h"

namespace linchpin {

// Reads each of `files` (a manifest, the directory that holds one, or the document
// that detect --out writes) and writes the page to `out`, whole or not at all.
// CONFIG_INVALID, naming the file, for anything else.
grpc::Status WriteReport(const std::vector<std::string>& files, const std::string& out);

}  // namespace linchpin
