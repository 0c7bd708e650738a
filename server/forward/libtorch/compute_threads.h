// LibTorch computes on the thread that calls it, and on no other.
//
// Parallelism is ours (base/parallel.h): over tensors when weights are read and
// over token lanes when they are used.  Thread pools that spin between small
// operators cost more than they bring, and several of them on few cores stand
// in each other's way.
#pragma once

namespace linchpin {

// Tells LibTorch and the BLAS beneath it so, for the calling thread.  Cheap
// after the first call on a thread.
void ComputeOnThisThread();

}  // namespace linchpin
