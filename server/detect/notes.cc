#include "detect/notes.h"

#include <algorithm>

#include "fmt/format.h"

namespace linchpin {
namespace {

// How many experts a forward pass did not see; empty where it saw all.
std::string UnreachedNote(const std::vector<LayerRecord>& layers) {
  size_t unreached = 0;
  size_t all = 0;
  for (const LayerRecord& layer : layers) {
    unreached += layer.unreached.size();
    all += layer.unreached.size() + static_cast<size_t>(std::count_if(
                                        layer.experts.begin(), layer.experts.end(),
                                        [](const DownProjRecord& r) { return r.expert >= 0; }));
  }
  if (unreached == 0) return "";
  return fmt::format(
      "no token of the prompt reached {} of the {} experts: what stands in them was never seen; a "
      "longer prompt reaches more",
      unreached, all);
}

std::string PromptsNote(const Stability& stability) {
  size_t agreeing = 0;
  for (const PromptRecord& prompt : stability.prompts) {
    if (prompt.found == stability.prompts.front().found) ++agreeing;
  }
  if (agreeing == stability.prompts.size()) return "";
  return fmt::format("{} of {} prompts found the same set of super weights", agreeing,
                     stability.prompts.size());
}

}  // namespace

std::vector<std::string> NotesOn(const Detection& detection) {
  std::vector<std::string> notes;
  if (detection.proof && detection.proof->origin == TokenOrigin::kBuiltInIds) {
    notes.push_back(fmt::format(
        "the proof ran on fixed ids ({}): perplexities on them mean little, so divergence decides",
        detection.proof->no_text_because));
  }
  for (std::string note : {UnreachedNote(detection.layers),
                           detection.stability ? PromptsNote(*detection.stability) : ""}) {
    if (!note.empty()) notes.push_back(std::move(note));
  }
  if (detection.suspects) {
    notes.emplace_back(
        "by weights alone: which of the suspects matter, a forward pass tells and a proof shows");
  }
  return notes;
}

}  // namespace linchpin
