// SHA-256 of bytes and of files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "artifact/progress_meter.h"
#include "base/run_context.h"
#include "checkpoint/checkpoint.h"

namespace linchpin {

struct FileRecord {
  std::string name;
  uint64_t size = 0;
  std::string sha256;  // 64 lower-case hexadecimal digits; empty: not taken

  friend bool operator==(const FileRecord&, const FileRecord&) = default;
};

// The order of a manifest's files.
inline bool ByName(const FileRecord& a, const FileRecord& b) { return a.name < b.name; }

// The digest in `records` of a file of that name and size; empty where there is none.
std::string DigestIn(const std::vector<FileRecord>& records, std::string_view name, uint64_t size);

// Not thread-safe.
class Sha256 {
 public:
  Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;
  ~Sha256();

  void Update(absl::Span<const std::byte> bytes);
  // The digest of everything so far, once.
  std::string Hex();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

std::string Sha256Hex(std::string_view text);

// Fills `out` from an offset.
using ReadRange = std::function<absl::Status(uint64_t offset, absl::Span<std::byte> out)>;

// Feeds `size` bytes from `begin` on to `digest`, checking for cancellation on the way.
absl::Status UpdateFrom(const ReadRange& read, uint64_t begin, uint64_t size,
                        const RunContext& context, Sha256& digest);

// A file to be digested.
struct DigestSource {
  std::string name;
  uint64_t size = 0;
  ReadRange read;
  std::string sha256;  // where it is known already: the file is not read
};

// Digests files side by side, one thread each; records sorted by name.
absl::StatusOr<std::vector<FileRecord>> DigestFiles(const std::vector<DigestSource>& files,
                                                    const RunContext& context,
                                                    ProgressMeter& meter);

// The files of a checkpoint that an artifact is made from: shards, index,
// config.json and the others, sorted by name.  Of those that `known` has, by name and
// size, the digest is taken over.
absl::StatusOr<std::vector<FileRecord>> DigestCheckpoint(const Checkpoint& checkpoint,
                                                         const RunContext& context,
                                                         const std::vector<FileRecord>& known = {});
// The same without the shards, and shard `index` alone.
absl::StatusOr<std::vector<FileRecord>> DigestBesideShards(const Checkpoint& checkpoint,
                                                           const RunContext& context);
absl::StatusOr<std::vector<FileRecord>> DigestShard(const Checkpoint& checkpoint, int index,
                                                    const RunContext& context);
// The same without digests.
absl::StatusOr<std::vector<FileRecord>> ListCheckpoint(const Checkpoint& checkpoint);

}  // namespace linchpin
