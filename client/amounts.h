// Sizes, durations and ratios as a person reads them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace linchpin {

// Decimal units and three digits: "0 B", "999 B", "1.23 kB", "45.6 MB", "2.20 GB".
std::string SizeText(double bytes);

// Bytes of "600MB", "2GiB", "1.5 GB" or "1048576"; nothing for any other text.
std::optional<uint64_t> SizeIn(std::string_view text);

// "0:07", "12:34", "1:02:03"; negative and absurd values read "-:--".
std::string DurationText(double seconds);

// "x1.00", "x5.58", "x374", "x61,662"; beyond a million "x9.07e+07".
std::string RatioText(double ratio);

// "1,234,567".
std::string CountText(int64_t count);

}  // namespace linchpin
