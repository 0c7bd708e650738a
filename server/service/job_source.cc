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

absl::StatusOr<SourceSurvey> SurveyFor(const std::string& source, const TokenLoad& load,
                                       const JobRun& run) {
  const Backend& backend = run.backend();
  ASSIGN_OR_RETURN(SourceSurvey survey,
                   backend.engine.survey(run.storage(), source, backend.threads, load));
  RETURN_IF_ERROR(run.caller().CheckJobBytes(survey.source_bytes));
  return survey;
}

}  // namespace linchpin
