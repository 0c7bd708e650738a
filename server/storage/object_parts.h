// What an object store is sent of a large file at a time.
#pragma once

#include <cstdint>

namespace linchpin {

// Of a multipart upload, unless a file would have too many of them; S3 takes no part
// under 5 MiB but the last.
inline constexpr uint64_t kPartBytes = uint64_t{8} << 20;

}  // namespace linchpin
