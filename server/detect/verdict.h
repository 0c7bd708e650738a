// What a proof says: the class of every super weight and the verdict on the model.
#pragma once

#include "detect/detection.h"

namespace linchpin {

// Classes and verdict from the proof's ratios, by the rules of
// `detection.options`; from exp(kl) in their place where the proof ran on ids
// that are no text; no proof leaves them unproven.  Pure.
//
// Where no weight matters, a super activation on whose channel no super weight
// stands makes the verdict `distributed`: something that the proof could not
// take away carries it.  One on whose channel a super weight stands was judged
// with it, whatever share that weight has of it.
void Judge(Detection& detection);

}  // namespace linchpin
