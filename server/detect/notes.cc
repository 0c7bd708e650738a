#include "detect/notes.h"

#include "fmt/format.h"

namespace linchpin {

std::vector<std::string> NotesOn(const Detection& detection) {
  std::vector<std::string> notes;
  if (detection.proof && detection.proof->origin == TokenOrigin::kBuiltInIds) {
    notes.push_back(fmt::format(
        "the proof ran on fixed ids ({}): perplexities on them mean little, so divergence decides",
        detection.proof->no_text_because));
  }
  return notes;
}

}  // namespace linchpin
