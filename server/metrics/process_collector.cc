#include "metrics/process_collector.h"

#include <sys/resource.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <sstream>
#include <string>

namespace linchpin {
namespace {

using prometheus::MetricFamily;
using prometheus::MetricType;

MetricFamily Single(const char* name, const char* help, MetricType type, double value) {
  MetricFamily family{name, help, type, {}};
  prometheus::ClientMetric metric;
  if (type == MetricType::Counter) {
    metric.counter.value = value;
  } else {
    metric.gauge.value = value;
  }
  family.metric.push_back(metric);
  return family;
}

// Field `number` (from 1, as proc(5) counts) of /proc/self/stat.  The second,
// the program's name, may hold blanks; counting starts behind its bracket.
std::optional<double> StatField(int number) {
  std::ifstream file("/proc/self/stat");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const size_t bracket = text.rfind(')');
  if (bracket == std::string::npos) return std::nullopt;
  std::istringstream fields(text.substr(bracket + 1));
  std::string field;
  for (int i = 3; i <= number; ++i) fields >> field;
  if (!fields) return std::nullopt;
  return std::strtod(field.c_str(), nullptr);
}

double BootTime() {
  std::ifstream file("/proc/stat");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("btime ")) return std::strtod(line.c_str() + 6, nullptr);
  }
  return 0;
}

std::optional<double> OpenDescriptors() {
  std::error_code error;
  const std::filesystem::directory_iterator entries("/proc/self/fd", error);
  if (error) return std::nullopt;
  // One of them is the iterator's own.
  return static_cast<double>(std::distance(begin(entries), end(entries))) - 1;
}

}  // namespace

std::vector<MetricFamily> ProcessCollector::Collect() const {
  const double ticks = static_cast<double>(sysconf(_SC_CLK_TCK));
  const double page = static_cast<double>(sysconf(_SC_PAGE_SIZE));
  std::vector<MetricFamily> families;
  const auto add = [&](const char* name, const char* help, MetricType type,
                       std::optional<double> value, double unit = 1) {
    if (value) families.push_back(Single(name, help, type, *value * unit));
  };
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) { return time.tv_sec + time.tv_usec * 1e-6; };
  rlimit descriptors{};
  getrlimit(RLIMIT_NOFILE, &descriptors);
  static const double boot_time = BootTime();

  add("process_cpu_seconds_total", "CPU time in seconds, user and system", MetricType::Counter,
      seconds(usage.ru_utime) + seconds(usage.ru_stime));
  add("process_resident_memory_bytes", "Resident memory in bytes", MetricType::Gauge, StatField(24),
      page);
  add("process_virtual_memory_bytes", "Virtual memory in bytes", MetricType::Gauge, StatField(23));
  add("process_open_fds", "Open file descriptors", MetricType::Gauge, OpenDescriptors());
  add("process_max_fds", "File descriptors that may be open", MetricType::Gauge,
      static_cast<double>(descriptors.rlim_cur));
  if (const auto start = StatField(22)) {
    add("process_start_time_seconds", "Start of the process, seconds since 1970", MetricType::Gauge,
        boot_time + *start / ticks);
  }
  return families;
}

}  // namespace linchpin
