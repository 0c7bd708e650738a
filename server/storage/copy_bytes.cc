#include "storage/copy_bytes.h"

#include <algorithm>
#include <vector>

#include "base/status.h"

namespace linchpin {

absl::Status CopyBytes(const ReadableFile& from, WritableFile& to, const RunContext& context) {
  constexpr uint64_t kCopyBytes = uint64_t{1} << 20;
  std::vector<std::byte> buffer(std::min(from.size(), kCopyBytes));
  for (uint64_t done = 0; done < from.size(); done += kCopyBytes) {
    RETURN_IF_ERROR(context.Check());
    const absl::Span<std::byte> chunk(buffer.data(), std::min(kCopyBytes, from.size() - done));
    RETURN_IF_ERROR(from.ReadAt(done, chunk));
    RETURN_IF_ERROR(to.WriteAt(done, chunk));
  }
  return absl::OkStatus();
}

}  // namespace linchpin
