// What a call names, and whether its caller may have it.
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "absl/status/statusor.h"
#include "linchpin/v1/compression.pb.h"
#include "service/job_run.h"
#include "service/request_key.h"

namespace linchpin {

// Whether the caller may read, or write, what a field of its request names:
// OPTION_INVALID, PATH_NOT_ALLOWED.
absl::Status MayRead(std::string_view field, const std::string& path, const JobRun& run);
absl::Status MayWrite(std::string_view field, const std::string& path, const JobRun& run);

// What a job over `source` costs, as far as the caller may cause it: the errors
// of SurveySource, POLICY_REFUSED.
absl::StatusOr<SourceSurvey> SurveyFor(const std::string& source, const TokenLoad& load,
                                       const JobRun& run);
// The same where `storage` stands for that of the call.
absl::StatusOr<SourceSurvey> SurveyIn(const Storage& storage, const std::string& source,
                                      const TokenLoad& load, const JobRun& run);

// What options add to the key of a job.  Of a donor of a GGUF output that is its
// fingerprint, wherever it lies; the caller must be allowed to read it.
absl::StatusOr<std::string> OptionsForKey(const google::protobuf::Message& options,
                                          const JobRun& run);
absl::StatusOr<std::string> OptionsForKey(const v1::QuantizationOptions& options,
                                          const JobRun& run);

// The key of a job over what was surveyed.
template <class... Options>
absl::StatusOr<std::string> KeyFor(const SourceSurvey& survey, const JobRun& run,
                                   const Options&... options) {
  std::string canonical;
  for (const absl::StatusOr<std::string>& each : {OptionsForKey(options, run)...}) {
    RETURN_IF_ERROR(each.status());
    canonical += *each;
  }
  return KeyOfBytes(survey.fingerprint, canonical);
}

// As SurveyFor.  From here on the job has its key, of the source and the options.
template <class... Options>
absl::StatusOr<SourceSurvey> Survey(const std::string& source, const TokenLoad& load, JobRun& run,
                                    const Options&... options) {
  ASSIGN_OR_RETURN(SourceSurvey survey, SurveyFor(source, load, run));
  ASSIGN_OR_RETURN(std::string key, KeyFor(survey, run, options...));
  run.SetKey(std::move(key));
  return survey;
}

// Besides, reserves what the forward pass over `source` needs; its headers and `load` say.
template <class... Options>
absl::Status ReserveFor(const std::string& source, const TokenLoad& load, JobRun& run,
                        const Options&... options) {
  ASSIGN_OR_RETURN(const SourceSurvey survey, Survey(source, load, run, options...));
  return run.Reserve(survey.memory_bytes);
}

}  // namespace linchpin
