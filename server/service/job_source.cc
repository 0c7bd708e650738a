#include "service/job_source.h"

#include "service/conversion.h"

namespace linchpin {
namespace {

Caller::Canonical CanonicalIn(const Storage& storage) {
  return [&storage](std::string_view path) { return storage.Canonical(path); };
}

}  // namespace

absl::Status MayRead(std::string_view field, const std::string& path, const JobRun& run) {
  RETURN_IF_ERROR(RequirePath(field, path));
  return run.caller().CheckSource(path, CanonicalIn(run.storage()));
}

absl::Status MayWrite(std::string_view field, const std::string& path, const JobRun& run) {
  RETURN_IF_ERROR(RequirePath(field, path));
  return run.caller().CheckDestination(path, CanonicalIn(run.storage()));
}

absl::StatusOr<std::string> OptionsForKey(const google::protobuf::Message& options,
                                          const JobRun& /*run*/) {
  return CanonicalBytes(options);
}

absl::StatusOr<std::string> OptionsForKey(const v1::QuantizationOptions& options,
                                          const JobRun& run) {
  const std::string& donor = options.gguf_donor();
  if (donor.empty()) return CanonicalBytes(options);
  RETURN_IF_ERROR(MayRead("quantization.gguf_donor", donor, run));
  ASSIGN_OR_RETURN(const SourceSurvey survey, SurveyFor(donor, TokenLoad{}, run));
  v1::QuantizationOptions named = options;
  named.set_gguf_donor(survey.fingerprint);
  return CanonicalBytes(named);
}

absl::StatusOr<SourceSurvey> SurveyFor(const std::string& source, const TokenLoad& load,
                                       const JobRun& run) {
  return SurveyIn(run.storage(), source, load, run);
}

absl::StatusOr<SourceSurvey> SurveyIn(const Storage& storage, const std::string& source,
                                      const TokenLoad& load, const JobRun& run) {
  const Backend& backend = run.backend();
  ASSIGN_OR_RETURN(SourceSurvey survey,
                   backend.engine.survey(storage, source, backend.threads, load));
  RETURN_IF_ERROR(run.caller().CheckJobBytes(survey.source_bytes));
  return survey;
}

}  // namespace linchpin
