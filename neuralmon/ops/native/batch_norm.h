// The sweeps of batch normalisation over memory, compiled once for each instruction set.
#pragma once

namespace neuralmon::batch_norm {

// `rows` rows of `width` floats that follow each other, each column of which is summed up by itself.
struct Block {
  long rows, width;
};

struct Kernels {
  // Of each column: roughly its mean, then the sums of what is left, x - mean, and of its squares. The first of them
  // tells what rounding left in the mean.
  void (*moments)(Block, const float* x, float* mean, float* rest, float* squares);
  // Of each column: the sums of a and of a * (x - mean).
  void (*products)(Block, const float* a, const float* x, const float* mean, float* sums, float* products);
};

extern const Kernels kPortable;
#ifdef __x86_64__
extern const Kernels kAvx2;
extern const Kernels kAvx512;
#endif

}  // namespace neuralmon::batch_norm
