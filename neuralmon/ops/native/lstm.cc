// An LSTM of float32 and its gradients. One unit of work is a few examples' whole sequences: they need nothing of the
// others', so threads wait for each other at the end only. Of the matrix's gradient it is a few columns.
#include "levels.h"
#include "lstm.h"
#include "threads.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace neuralmon::lstm {
namespace {

using Input = ffi::Buffer<ffi::F32>;
using Output = ffi::ResultBuffer<ffi::F32>;

const Kernels& kernels() { return TABLE; }

// Calls work(part) for parts that make up the batch, with more rows the more there are: the matrix is read once for
// all rows of a part.
template <typename Work>
void in_parts(ffi::ThreadPool& pool, const Input& cell_before, long steps, bool reverse, const Work& work) {
  const long batch = cell_before.dimensions()[0], features = cell_before.dimensions()[1];
  const long rows = std::clamp((batch + 3) / 4, 4l, 16l);
  const double operations = 8.0 * steps * batch * features * features;
  in_parallel(pool, (batch + rows - 1) / rows, operations, [&](long unit) {
    work(Part{steps, batch, features, unit * rows, std::min(batch, (unit + 1) * rows), reverse});
  });
}

ffi::Error forward(ffi::ThreadPool pool, Input projected, Input matrix, Input hidden_before, Input cell_before,
                   Output hidden, Output cell, Output gates, bool reverse) {
  float* packed = kept<float, 0>(matrix.element_count());
  kernels().pack_forward(matrix.typed_data(), matrix.dimensions()[0], packed);
  in_parts(pool, cell_before, projected.dimensions()[0], reverse, [&](const Part& part) {
    kernels().forward({part, projected.typed_data(), packed, hidden_before.typed_data(), cell_before.typed_data(),
                       hidden->typed_data(), cell->typed_data(), gates->typed_data()});
  });
  return ffi::Error::Success();
}

ffi::Error backward(ffi::ThreadPool pool, Input gates, Input hidden, Input cell, Input hidden_before,
                    Input cell_before, Input matrix, Input hidden_gradient, Input last_hidden_gradient,
                    Input last_cell_gradient, Output projected_gradient, Output matrix_gradient,
                    Output hidden_before_gradient, Output cell_before_gradient, bool reverse) {
  float* packed = kept<float, 0>(matrix.element_count());
  kernels().pack_backward(matrix.typed_data(), matrix.dimensions()[0], packed);
  in_parts(pool, cell_before, gates.dimensions()[0], reverse, [&](const Part& part) {
    kernels().backward({part, gates.typed_data(), cell.typed_data(), cell_before.typed_data(), packed,
                        hidden_gradient.typed_data(), last_hidden_gradient.typed_data(),
                        last_cell_gradient.typed_data(), projected_gradient->typed_data(),
                        hidden_before_gradient->typed_data(), cell_before_gradient->typed_data()});
  });

  const long steps = gates.dimensions()[0], batch = gates.dimensions()[1], columns = gates.dimensions()[2];
  const long width = kernels().columns;
  in_parallel(pool, (columns + width - 1) / width, 0.5 * steps * batch * columns * columns, [&](long unit) {
    const Part part{steps, batch, columns / 4, unit * width, std::min(columns, (unit + 1) * width), reverse};
    kernels().matrix_gradient({part, hidden_before.typed_data(), hidden.typed_data(),
                               projected_gradient->typed_data(), matrix_gradient->typed_data(),
                               kept<float, 1>(kernels().scratch_floats)});
  });
  return ffi::Error::Success();
}

}  // namespace
}  // namespace neuralmon::lstm

XLA_FFI_DEFINE_HANDLER_SYMBOL(neuralmon_lstm, neuralmon::lstm::forward,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Attr<bool>("reverse"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(neuralmon_lstm_gradients, neuralmon::lstm::backward,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Attr<bool>("reverse"));
