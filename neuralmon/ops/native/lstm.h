// The inner loops of the LSTM, compiled once for each instruction set.
#pragma once

namespace neuralmon::lstm {

// Some examples' whole sequences: rows [first, last) of arrays [batch][features] or [steps][batch][gates * features].
// The gates are the input gate, the forget gate, the candidate and the output gate, in this order.
struct Part {
  long steps, batch, features, first, last;
  bool reverse;  // from the last step to the first
};

struct Forward {
  Part part;
  const float *projected, *matrix, *hidden_before, *cell_before;  // the matrix as packed
  float *hidden, *cell, *gates;
};

struct Backward {
  Part part;
  const float *gates, *cell, *cell_before, *matrix, *hidden_gradient, *last_hidden_gradient, *last_cell_gradient;
  float *projected_gradient, *hidden_before_gradient, *cell_before_gradient;
};

// The columns [first, last) of the gradient of the matrix, a product of all steps; `scratch` is of `scratch_floats`.
struct MatrixGradient {
  Part part;
  const float *hidden_before, *hidden, *projected_gradient;
  float *matrix_gradient, *scratch;
};

// `features` is a multiple of 16, so of all vectors. A packed matrix is as large as it was.
struct Kernels {
  void (*pack_forward)(const float* matrix, long features, float* to);
  void (*forward)(const Forward&);
  void (*pack_backward)(const float* matrix, long features, float* to);
  void (*backward)(const Backward&);
  long columns, scratch_floats;  // at most, of a part of the matrix's gradient
  void (*matrix_gradient)(const MatrixGradient&);
};

extern const Kernels kPortable, kAvx2, kAvx512;  // the latter two on x86-64 only

}  // namespace neuralmon::lstm
