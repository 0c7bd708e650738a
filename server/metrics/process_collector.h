// The conventional process_* metrics, read when they are asked for.
#pragma once

#include <vector>

#include "prometheus/collectable.h"
#include "prometheus/metric_family.h"

namespace linchpin {

// Linux only: /proc/self.  What cannot be read is left out.  Thread-safe.
class ProcessCollector : public prometheus::Collectable {
 public:
  std::vector<prometheus::MetricFamily> Collect() const override;
};

}  // namespace linchpin
