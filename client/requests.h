// From the command line to the messages of the API.
#pragma once

#include <string>
#include <string_view>

#include "client/command_line.h"
#include "grpcpp/support/status.h"
#include "linchpin/v1/compression.pb.h"

namespace linchpin {

// A call's request may have so many bytes; text and tokens are cut to fit by the caller.
inline constexpr size_t kMaxRequestBytes = 4 << 20;

// "1,2,3" as one sequence; OPTION_INVALID for anything else.
grpc::Status ParseIds(std::string_view ids, v1::TokenSource& source);

// A JSON array of arrays of ids; TOKENS_INVALID, naming `file`, for anything else.
grpc::Status ParseIdLists(std::string_view file, std::string_view json, v1::TokenSource& source);

using Thresholds = google::protobuf::Map<std::string, double>;

// "NAME=VALUE"; OPTION_INVALID for anything else.  The server knows the names.
grpc::Status ParseThreshold(std::string_view text, Thresholds& thresholds);

// Reads the files that the options name.  Leaves `source` empty if none is set.
grpc::Status MakeTokenSource(const TokenOptions& options, v1::TokenSource& source);
grpc::Status MakeDetectionOptions(const CommandLine& line, v1::DetectionOptions& options);
grpc::Status MakeQuantizationOptions(const QuantizationChoices& choices,
                                     v1::QuantizationOptions& options);
grpc::Status MakeAnalyses(const CommandLine& line, v1::Analyses& analyses);
v1::Windows MakeWindows(const WindowOptions& windows);

}  // namespace linchpin
