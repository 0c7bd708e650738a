// The input is what a killed run noted, a line per note, without the digests that lines
// bear.  IDENTITY stands for the run's own.
//
// A row counts as finished only where the bytes that stand there have the digest that
// was noted, and a run that goes on notes no more than it needs.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_replace.h"
#include "artifact/digest.h"
#include "artifact/journal.h"
#include "base/status.h"
#include "storage/local_storage.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/invariant.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/tiny_checkpoint.h"

namespace {

using linchpin::Checkpoint;
using linchpin::Journal;
using linchpin::Plan;

constexpr uint64_t kSlotBytes = 4;

// All bytes of an output are 0.
class Zeros : public linchpin::WritableFile {
 public:
  absl::Status WriteAt(uint64_t, absl::Span<const std::byte>) override { return absl::OkStatus(); }
  absl::Status ReadAt(uint64_t, absl::Span<std::byte> out) const override {
    std::fill(out.begin(), out.end(), std::byte{0});
    return absl::OkStatus();
  }
};

class NotedOutput : public linchpin::OutputDirectory {
 public:
  explicit NotedOutput(std::string notes) : notes_(std::move(notes)) {}
  absl::StatusOr<std::unique_ptr<linchpin::WritableFile>> CreateFile(std::string_view,
                                                                     uint64_t) override {
    return std::make_unique<Zeros>();
  }
  absl::Status Commit() override { return absl::OkStatus(); }
  bool KeepsNotes() const override { return true; }
  absl::StatusOr<std::string> EarlierNotes() const override { return notes_; }
  absl::Status Note(std::string_view text) override {
    noted_ += text;
    return absl::OkStatus();
  }
  const std::string& noted() const { return noted_; }

 private:
  const std::string notes_;
  std::string noted_;
};

// A source with a version, which memory has not.
const Checkpoint& Source() {
  static const auto& checkpoint = *[] {
    static const auto& directory = *new linchpin::TemporaryDirectory;
    linchpin::MemoryStorage made;
    linchpin::PutTinyCheckpoint(made, "m");
    const auto files = *made.List("m");
    for (const linchpin::FileEntry& entry : files) {
      directory.Write("m/" + entry.name, linchpin::ToText(made.Get("m/" + entry.name)));
    }
    auto& storage = *linchpin::LocalStorage::Create({.read_roots = {directory.path()}})->release();
    return new Checkpoint(*Checkpoint::Open(storage, directory / "m"));
  }();
  return checkpoint;
}

// As Journal writes them: a digest of the line in front.
std::string WithDigests(std::string_view notes) {
  std::string lines;
  while (!notes.empty()) {
    const std::string_view note = notes.substr(0, notes.find('\n'));
    notes.remove_prefix(std::min(note.size() + 1, notes.size()));
    lines += linchpin::Sha256Hex(note).substr(0, 16) + " " + std::string(note) + "\n";
  }
  return lines;
}

void CheckFound(const Journal& journal, const Plan& plan) {
  static const std::string& zeros = *new std::string(linchpin::Sha256Hex(std::string(4, '\0')));
  Zeros file;
  const std::vector<linchpin::TensorSlot> slots = {{&file, 0, kSlotBytes}};
  for (size_t row = 0; row < plan.rows.size(); ++row) {
    const auto found = journal.Find(row, slots, {});
    INVARIANT(found.ok());
    if (*found) INVARIANT((*found)->sha256 == zeros);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Plan& plan =
      *new Plan(*linchpin::MakePlan(Source(), {.scale = linchpin::ScaleRule::kMinMax}, {}));
  static const std::string& identity =
      *new std::string(linchpin::IdentityOf(Source(), plan, nullptr));
  const std::string notes =
      absl::StrReplaceAll(std::string(TextOf(data, size)), {{"IDENTITY", identity}});
  for (const std::string& text : {notes, WithDigests(notes)}) {
    NotedOutput output(text);
    const auto journal = Journal::Open(Source(), plan, nullptr, output);
    INVARIANT(journal.ok());
    CheckFound(*journal, plan);
    // What is noted now is read again by the next run, which is ours.
    NotedOutput next(text.empty() || text.back() == '\n' ? text + output.noted() : output.noted());
    INVARIANT(Journal::Open(Source(), plan, nullptr, next).ok());
    INVARIANT(next.noted().empty());
  }
  return 0;
}
