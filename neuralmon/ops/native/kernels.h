// The inner loops of a convolution, compiled once for each instruction set.
#pragma once

namespace neuralmon {

// One entry of the kernel, seen from a row of outputs.
struct Tap {
  const float* inputs;   // what the entry meets at the row's first output: `depth` channels
  const float* weights;  // packed [depth][width]
};

struct Kernels {
  long lanes;      // floats in a vector
  long registers;  // accumulators, at most
  // out[p][j] = sum over taps t and channels c of t.inputs[p * step + c] * t.weights[c * width + j]
  // for `pixels` outputs p, `vectors` * lanes = width channels j, of which the first `channels` are stored.
  void (*outputs)(long vectors, long pixels, const Tap* taps, long num_taps, long depth, long step, float* out,
                  long out_step, long channels);
  // sums[a * sums_step + j] += sum over rows r and pixels p of
  //   inputs[r * in_row + p * in_step + a] * gradients[r * gradient_row + p * gradient_step + j]
  // for `values` values a and `vectors` * lanes channels j, of which the first `channels` are loaded and stored.
  void (*products)(long vectors, long values, const float* inputs, long in_row, long in_step, const float* gradients,
                   long gradient_row, long gradient_step, long rows, long pixels, float* sums, long sums_step,
                   long channels);
};

extern const Kernels kPortable, kAvx2, kAvx512;  // the latter two on x86-64 only

}  // namespace neuralmon
