// Measures the input of every linear layer of the blocks while tokens pass.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "forward/forward_pass.h"
#include "tensor/importance.h"

namespace linchpin {

// May be the tap of several lanes, one RunLayer after the other.  Sums run in
// double and in fixed order: the same for any number of threads.
class ImportanceTap : public Tap {
 public:
  void OnLinearInput(const LinearInputView& view) override;

  // What was measured so far.
  Importance Take() const;

 private:
  struct Sums {
    std::vector<std::string> weights;
    std::vector<float> squares;  // per input channel
    int64_t tokens = 0;
  };
  std::map<std::string, Sums, std::less<>> sums_;  // by the first of the weights
};

}  // namespace linchpin
