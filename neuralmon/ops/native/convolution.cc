// Direct convolution of float32, channels last, in two spatial dimensions: its outputs, by the same loops the gradient
// of its inputs, and the gradient of its kernel. A "map" is the outermost axis of every array, of size 1 where one
// array serves all maps.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <vector>

#include "kernels.h"
#include "levels.h"
#include "threads.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace neuralmon {
namespace {

const Kernels& kernels() { return TABLE; }

// One spatial dimension: at entry k of the kernel output o sees input
// (o * stride - low + k * kernel_dilation) / input_dilation, where that is whole.
struct Axis {
  long stride, low, input_dilation, kernel_dilation;
  long inputs, kernel, outputs;

  long input_of(long output, long entry) const { return output * stride - low + entry * kernel_dilation; }
};

long ceil_div(long a, long b) { return (a + b - 1) / b; }
long floor_div(long a, long b) { return a >= 0 ? a / b : -ceil_div(-a, b); }

constexpr long kBand = 16384;  // floats of inputs and gradients that are met again and again: half of a small L2

// Rows of one image, each copied to where it has the zeros that the padding asks for.
class PaddedRows {
 public:
  PaddedRows(long width, long channels, long first, long last, long slots, float* memory)
      : left_(std::max(0L, -first)), size_((left_ + std::max(width, last + 1)) * channels), width_(width * channels),
        channels_(channels), slots_(slots), memory_(memory), rows_(slots, -1) {
    copy_ = left_ > 0 || last >= width;
    if (copy_) std::memset(memory, 0, size_ * slots * sizeof(float));
  }
  static long floats(long width, long channels, long first, long last, long slots) {
    return (std::max(0L, -first) + std::max(width, last + 1)) * channels * slots;
  }
  void image(const float* inputs) {
    if (inputs != inputs_) std::fill(rows_.begin(), rows_.end(), -1);
    inputs_ = inputs;
  }
  // Where column 0 of a row is.
  const float* row(long y) {
    if (!copy_) return inputs_ + y * width_;
    float* to = memory_ + y % slots_ * size_ + left_ * channels_;
    if (rows_[y % slots_] != y) std::memcpy(to, inputs_ + y * width_, width_ * sizeof(float));
    rows_[y % slots_] = y;
    return to;
  }
  long pitch() const { return copy_ ? size_ : width_; }

 private:
  long left_, size_, width_, channels_, slots_;
  float* memory_;
  std::vector<long> rows_;
  const float* inputs_ = nullptr;
  bool copy_;
};

// The outputs o = phase + i * period of an axis see the inputs i * step + offset.
struct Phase {
  struct Entry {
    long entry, offset;
  };
  long first, count;
  std::vector<Entry> entries;

  bool adjacent() const {
    for (size_t i = 1; i < entries.size(); ++i) {
      if (entries[i].offset != entries[0].offset + long(i)) return false;
    }
    return true;
  }
};

std::vector<Phase> phases(const Axis& axis) {
  const long period = axis.input_dilation / std::gcd(axis.stride, axis.input_dilation);
  std::vector<Phase> all;
  for (long first = 0; first < std::min(period, axis.outputs); ++first) {
    Phase phase{first, ceil_div(axis.outputs - first, period), {}};
    for (long k = 0; k < axis.kernel; ++k) {
      const long at = axis.input_of(first, k);
      if (floor_div(at, axis.input_dilation) * axis.input_dilation == at) {
        phase.entries.push_back({k, floor_div(at, axis.input_dilation)});
      }
    }
    all.push_back(std::move(phase));
  }
  return all;
}

// How many vectors of channels and how many pixels a block has: the fewest cycles, as far as loads and latency say.
struct Blocking {
  long vectors, pixels;
};

Blocking best_blocking(const Kernels& k, long channels, long width, long most_vectors, long most_pixels) {
  Blocking best{1, 1};
  double least = 1e30;
  for (long vectors = 1; vectors <= most_vectors; vectors *= 2) {
    const long most = std::min(most_pixels, k.registers / vectors);
    const long blocks = ceil_div(width, most), pixels = ceil_div(width, blocks);
    const double cycles = std::max({vectors * pixels / 2.0, (vectors + pixels) / 2.0 + 0.5, 4.0});
    const double cost = ceil_div(channels, vectors * k.lanes) * blocks * cycles;
    if (cost < least * 0.999) least = cost, best = {vectors, pixels};
  }
  return best;
}

ffi::Error convolve(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> inputs, ffi::Buffer<ffi::F32> kernel,
                    ffi::ResultBuffer<ffi::F32> outputs, ffi::Span<const int64_t> window, bool transposed) {
  const auto in = inputs.dimensions(), ker = kernel.dimensions(), out = outputs->dimensions();
  const long maps = out[0], batch = out[1], in_channels = in[4], out_channels = out[4];
  const Axis ys{window[0], window[2], window[4], window[6], in[2], ker[1], out[2]};
  const Axis xs{window[1], window[3], window[5], window[7], in[3], ker[2], out[3]};
  const Kernels& k = kernels();
  const auto y_phases = phases(ys), x_phases = phases(xs);
  const Blocking block = best_blocking(k, out_channels, x_phases[0].count, 4, 16);
  const long lanes = block.vectors * k.lanes, channel_blocks = ceil_div(out_channels, lanes);
  const long y_period = y_phases.size(), x_period = x_phases.size();
  const long y_step = ys.stride * y_period / ys.input_dilation, x_step = xs.stride * x_period / xs.input_dilation;
  const long entries = ys.kernel * xs.kernel;

  // Weights as [map, block of output channels, entry, input channel, output channel], with zeros up to a whole block.
  // Entries of a row go in the order in which the phases take them.
  std::vector<long> place(xs.kernel, -1);
  for (long used = 0; const Phase& phase : x_phases) {
    for (auto [entry, offset] : phase.entries) place[entry] = used++;
  }
  const long kernel_maps = ker[0], packed_map = channel_blocks * entries * in_channels * lanes;
  float* packed = kept<float, 0>(kernel_maps * packed_map);
  in_parallel(pool, kernel_maps * entries, 20.0 * kernel_maps * packed_map, [&](long unit) {
    const long map = unit / entries, y_entry = unit % entries / xs.kernel, x_entry = unit % xs.kernel;
    if (place[x_entry] < 0) return;
    const long entry = y_entry * xs.kernel + place[x_entry], source = y_entry * xs.kernel + x_entry;
    // A transposed convolution sees the kernel turned round, with its channels swapped.
    const float* from = kernel.typed_data() +
                        (map * entries + (transposed ? entries - 1 - source : source)) * in_channels * out_channels;
    for (long b = 0; b < channel_blocks; ++b) {
      const long some = std::min(lanes, out_channels - b * lanes);
      float* to = packed + map * packed_map + (b * entries + entry) * in_channels * lanes;
      for (long c = 0; c < in_channels; ++c, to += lanes) {
        if (transposed) {
          for (long j = 0; j < some; ++j) to[j] = from[(b * lanes + j) * in_channels + c];
        } else {
          std::memcpy(to, from + c * out_channels + b * lanes, some * sizeof(float));
        }
        std::fill(to + some, to + lanes, 0.0f);
      }
    }
  });

  // Columns and rows that are seen.
  long first = 0, last = 0, first_row = 0, last_row = 0;
  for (const Phase& phase : x_phases) {
    for (auto [entry, offset] : phase.entries) {
      first = std::min(first, offset), last = std::max(last, offset + (phase.count - 1) * x_step);
    }
  }
  for (const Phase& phase : y_phases) {
    for (auto [entry, offset] : phase.entries) {
      first_row = std::min(first_row, offset), last_row = std::max(last_row, offset);
    }
  }
  const long slots = std::min(ys.inputs, last_row - first_row + 1 + y_step);
  const long bands = std::min(ceil_div(32, maps * batch), y_phases[0].count);
  const double operations = 2.0 * maps * batch * ys.outputs * xs.outputs * out_channels * in_channels * entries;

  in_parallel(pool, maps * batch * bands, operations, [&](long unit) {
    const long image = unit / bands, band = unit % bands, map = image / batch;
    const long row_size = xs.outputs * out_channels;
    PaddedRows rows(xs.inputs, in_channels, first, last, slots,
                    kept<float, 1>(PaddedRows::floats(xs.inputs, in_channels, first, last, slots)));
    rows.image(inputs.typed_data() + (in[0] == 1 ? image % batch : image) * ys.inputs * xs.inputs * in_channels);
    const float* weights = packed + (kernel_maps == 1 ? 0 : map) * packed_map;
    float* to = outputs->typed_data() + image * ys.outputs * row_size;
    std::vector<Tap> taps;
    const long low = y_phases[0].count * band / bands, high = y_phases[0].count * (band + 1) / bands;
    for (long i = low; i < high; ++i) {
      for (const Phase& y_phase : y_phases) {
        if (i >= y_phase.count) continue;
        for (const Phase& x_phase : x_phases) {
          // Entries that see neighbouring inputs are one, of so many times as many channels.
          const bool adjacent = x_phase.adjacent();
          const long depth = in_channels * (adjacent ? x_phase.entries.size() : 1);
          taps.clear();
          for (auto [y_entry, y_offset] : y_phase.entries) {
            const long y = i * y_step + y_offset;
            if (y < 0 || y >= ys.inputs) continue;
            const float* row = rows.row(y);
            for (auto [x_entry, x_offset] : x_phase.entries) {
              if (adjacent && x_entry != x_phase.entries[0].entry) break;
              taps.push_back({row + x_offset * in_channels,
                              weights + (y_entry * xs.kernel + place[x_entry]) * in_channels * lanes});
            }
          }
          float* row_to = to + (i * y_period + y_phase.first) * row_size;
          for (long b = 0; b < channel_blocks; ++b) {
            const long blocks = ceil_div(x_phase.count, block.pixels);
            for (long j = 0, x = 0; j < blocks; ++j) {
              const long pixels = x_phase.count * (j + 1) / blocks - x;
              k.outputs(block.vectors, pixels, taps.data(), taps.size(), depth, x_step * in_channels,
                        row_to + (x * x_period + x_phase.first) * out_channels + b * lanes, x_period * out_channels,
                        out_channels - b * lanes);
              for (Tap& tap : taps) tap.inputs += pixels * x_step * in_channels;
              x += pixels;
            }
            for (Tap& tap : taps) {
              tap.inputs -= x_phase.count * x_step * in_channels;
              tap.weights += entries * in_channels * lanes;
            }
          }
        }
      }
    }
  });
  return ffi::Error::Success();
}

// The gradient of the kernel. Sums over the batch are those of fixed chunks of it, so that they do not depend on the
// number of threads.
ffi::Error kernel_gradient(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> inputs, ffi::Buffer<ffi::F32> gradients,
                           ffi::ResultBuffer<ffi::F32> outputs, ffi::Span<const int64_t> window) {
  const auto in = inputs.dimensions(), grad = gradients.dimensions(), ker = outputs->dimensions();
  const long maps = ker[0], batch = in[1], in_channels = in[4], out_channels = grad[4];
  const Axis ys{window[0], window[2], 1, window[6], in[2], ker[1], grad[2]};
  const Axis xs{window[1], window[3], 1, window[7], in[3], ker[2], grad[3]};
  const Kernels& k = kernels();

  // Neighbouring entries of an undilated kernel see neighbouring values: they are taken together.
  const bool together = xs.kernel_dilation == 1;
  const long run = (together ? xs.kernel : 1) * in_channels, runs = together ? 1 : xs.kernel;
  const Blocking block = best_blocking(k, out_channels, run, 2, 24);
  const long lanes = block.vectors * k.lanes, channel_blocks = ceil_div(out_channels, lanes);
  const long value_blocks = ceil_div(run, block.pixels);
  const long size = ys.kernel * xs.kernel * in_channels * out_channels;

  const long first = std::min(0L, -xs.low), last = std::max(0L, xs.input_of(xs.outputs - 1, xs.kernel - 1));
  // As many rows at a time as fit into a core's own cache together with what they meet.
  const long in_row = PaddedRows::floats(xs.inputs, in_channels, first, last, 1);
  const long gradient_row = xs.outputs * out_channels;
  const long most = std::clamp(kBand / (in_row * ys.stride + gradient_row), 1L, ys.outputs);
  const long band = ceil_div(ys.outputs, ceil_div(ys.outputs, most));
  const long slots = std::min(ys.inputs, (band - 1) * ys.stride + (ys.kernel - 1) * ys.kernel_dilation + 1);
  const long chunks = std::max(1L, std::min({batch, 16L, (1L << 20) / size}));
  // Large kernels are too dear to have many times: their channels are divided instead.
  const long parts = chunks >= 8 ? 1 : std::min(channel_blocks, 8L);
  float* sums = kept<float, 0>(chunks * maps * size);
  in_parallel(pool, maps * chunks, maps * chunks * size, [&](long unit) {
    std::memset(sums + unit * size, 0, size * sizeof(float));
  });
  const double operations = 2.0 * maps * batch * ys.outputs * xs.outputs * size;

  in_parallel(pool, maps * chunks * parts, operations, [&](long unit) {
    const long map = unit / parts / chunks, chunk = unit / parts % chunks, part = unit % parts;
    float* sum = sums + unit / parts * size;
    PaddedRows rows(xs.inputs, in_channels, first, last, slots, kept<float, 1>(in_row * slots));
    for (long n = batch * chunk / chunks; n < batch * (chunk + 1) / chunks; ++n) {
      rows.image(inputs.typed_data() + ((in[0] == 1 ? 0 : map) * batch + n) * ys.inputs * xs.inputs * in_channels);
      const float* gradient =
          gradients.typed_data() + ((grad[0] == 1 ? 0 : map) * batch + n) * ys.outputs * gradient_row;
      for (long start = 0; start < ys.outputs; start += band) {
        const long stop = std::min(start + band, ys.outputs);
        for (long ky = 0; ky < ys.kernel; ++ky) {
          // The rows of the band for which this entry of the kernel lies on the image.
          const long shift = ys.low - ky * ys.kernel_dilation;
          const long from = std::max(start, ceil_div(std::max(0L, shift), ys.stride));
          const long to = std::min(stop, floor_div(ys.inputs - 1 + shift, ys.stride) + 1);
          for (long y = from; y < to;) {
            // As many rows as follow each other in memory: the slots are used in turn.
            const long at = y * ys.stride - shift;
            const float* row = rows.row(at);
            long count = 1;
            const long step = ys.stride * rows.pitch();
            while (y + count < to && rows.row(at + count * ys.stride) == row + count * step) ++count;
            for (long r = 0; r < runs; ++r) {
              const float* values = row + (r * xs.kernel_dilation - xs.low) * in_channels;
              float* entry = sum + ((ky * xs.kernel + r) * in_channels) * out_channels;
              for (long b = channel_blocks * part / parts; b < channel_blocks * (part + 1) / parts; ++b) {
                for (long j = 0, a = 0; j < value_blocks; ++j) {
                  const long some = run * (j + 1) / value_blocks - a;
                  k.products(block.vectors, some, values + a, step, xs.stride * in_channels,
                             gradient + y * gradient_row + b * lanes, gradient_row, out_channels, count, xs.outputs,
                             entry + a * out_channels + b * lanes, out_channels, out_channels - b * lanes);
                  a += some;
                }
              }
            }
            y += count;
          }
        }
      }
    }
  });
  constexpr long kSlices = 8;
  in_parallel(pool, maps * kSlices, 8.0 * maps * chunks * size, [&](long unit) {
    const long map = unit / kSlices, slice = unit % kSlices;
    const long first_sum = size * slice / kSlices, last_sum = size * (slice + 1) / kSlices;
    float* to = outputs->typed_data() + map * size;
    for (long chunk = 0; chunk < chunks; ++chunk) {
      const float* from = sums + (map * chunks + chunk) * size;
      for (long i = first_sum; i < last_sum; ++i) to[i] = chunk ? to[i] + from[i] : from[i];
    }
  });
  return ffi::Error::Success();
}

}  // namespace
}  // namespace neuralmon

XLA_FFI_DEFINE_HANDLER_SYMBOL(neuralmon_convolve, neuralmon::convolve,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Attr<ffi::Span<const int64_t>>("window")
                                  .Attr<bool>("transposed"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(neuralmon_kernel_gradient, neuralmon::kernel_gradient,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Attr<ffi::Span<const int64_t>>("window"));
