// The two sweeps over memory that batch normalisation needs beside what XLA fuses with other elementwise work: each
// channel's mean and variance, and in the backward pass the sums its gradients are made of. One unit of work is a block
// that a cache holds, because the variance of a block is computed around the block's own mean; blocks are put together
// in double precision (Chan, Golub & LeVeque, "Updating formulae and a pairwise algorithm", 1979, eq. 2.1).
#include <numeric>
#include <vector>

#include "batch_norm.h"
#include "levels.h"
#include "threads.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace neuralmon::batch_norm {
namespace {

using Input = ffi::Buffer<ffi::F32>;
using Output = ffi::ResultBuffer<ffi::F32>;

constexpr long kBlock = 1 << 15;  // floats of a block
constexpr long kWidth = 128;      // floats of a row, at least: rows of few channels are taken as fewer wide ones

constexpr double kOperations = 8;  // in the time that memory takes for a float

const Kernels& kernels() { return TABLE; }

// How an array [rows][channels] is cut: blocks of wide rows, of whole vectors, and the rows that are left.
struct Cut {
  long rows, channels, repeats, wide_rows, block_rows, blocks, units;
  Cut(long rows, long channels) : rows(rows), channels(channels) {
    repeats = 16 / std::gcd(16l, channels);  // the fewest that make up whole vectors
    repeats = channels < kWidth ? repeats * ((kWidth + repeats * channels - 1) / (repeats * channels)) : 1;
    wide_rows = rows / repeats;
    block_rows = std::max(8l, kBlock / width());
    blocks = (wide_rows + block_rows - 1) / block_rows;
    units = blocks + (rows % repeats > 0);
  }
  long width() const { return repeats * channels; }
  long first(long unit) const { return unit < blocks ? unit * block_rows * width() : wide_rows * width(); }
  Block block(long unit) const {
    if (unit == blocks) return {rows % repeats, channels};
    return {std::min(block_rows, wide_rows - unit * block_rows), width()};
  }
  // Calls add(channel, place among the results of all units, rows of it).
  template <typename Add>
  void each(const Add& add) const {
    for (long unit = 0; unit < units; ++unit) {
      const Block part = block(unit);
      for (long column = 0; column < part.width; column += channels) {
        for (long channel = 0; channel < channels; ++channel) {
          add(channel, unit * width() + column + channel, part.rows);
        }
      }
    }
  }
};

// Arrays are [maps][rows][channels] or [maps][channels].
ffi::Error moments(ffi::ThreadPool pool, Input x, Output mean, Output variance) {
  const auto sizes = x.dimensions();
  const Cut cut(sizes[1], sizes[2]);
  const long all = cut.units * cut.width(), maps = sizes[0], size = cut.rows * cut.channels;
  std::vector<float> results(maps * 3 * all);
  in_parallel(pool, maps * cut.units, kOperations * maps * size, [&](long index) {
    const long map = index / cut.units, unit = index % cut.units;
    float* to = results.data() + map * 3 * all + unit * cut.width();
    kernels().moments(cut.block(unit), x.typed_data() + map * size + cut.first(unit), to, to + all, to + 2 * all);
  });
  std::vector<double> means(cut.channels), squares(cut.channels);
  for (long map = 0; map < maps; ++map) {
    const float *near = results.data() + map * 3 * all, *rest = near + all, *square = rest + all;
    std::fill(means.begin(), means.end(), 0.0);
    std::fill(squares.begin(), squares.end(), 0.0);
    cut.each([&](long channel, long at, long rows) { means[channel] += double(near[at]) * rows + rest[at]; });
    for (double& value : means) value /= cut.rows;
    cut.each([&](long channel, long at, long rows) {
      const double shift = near[at] - means[channel];
      squares[channel] += square[at] + shift * (2.0 * rest[at] + shift * rows);
    });
    for (long channel = 0; channel < cut.channels; ++channel) {
      mean->typed_data()[map * cut.channels + channel] = means[channel];
      variance->typed_data()[map * cut.channels + channel] = squares[channel] / cut.rows;
    }
  }
  return ffi::Error::Success();
}

ffi::Error products(ffi::ThreadPool pool, Input a, Input x, Input mean, Output sums, Output products) {
  const auto sizes = x.dimensions();
  const Cut cut(sizes[1], sizes[2]);
  const long all = cut.units * cut.width(), maps = sizes[0], size = cut.rows * cut.channels;
  std::vector<float> results(maps * 2 * all), means(maps * cut.width());
  for (long at = 0; at < maps * cut.width(); ++at) {
    means[at] = mean.typed_data()[at / cut.width() * cut.channels + at % cut.width() % cut.channels];
  }
  in_parallel(pool, maps * cut.units, kOperations * maps * size, [&](long index) {
    const long map = index / cut.units, unit = index % cut.units, first = map * size + cut.first(unit);
    float* to = results.data() + map * 2 * all + unit * cut.width();
    kernels().products(cut.block(unit), a.typed_data() + first, x.typed_data() + first,
                       means.data() + map * cut.width(), to, to + all);
  });
  std::vector<double> first(cut.channels), second(cut.channels);
  for (long map = 0; map < maps; ++map) {
    const float *sum = results.data() + map * 2 * all, *product = sum + all;
    std::fill(first.begin(), first.end(), 0.0);
    std::fill(second.begin(), second.end(), 0.0);
    cut.each([&](long channel, long at, long) { first[channel] += sum[at], second[channel] += product[at]; });
    std::copy(first.begin(), first.end(), sums->typed_data() + map * cut.channels);
    std::copy(second.begin(), second.end(), products->typed_data() + map * cut.channels);
  }
  return ffi::Error::Success();
}

}  // namespace
}  // namespace neuralmon::batch_norm

XLA_FFI_DEFINE_HANDLER_SYMBOL(neuralmon_moments, neuralmon::batch_norm::moments,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>());

XLA_FFI_DEFINE_HANDLER_SYMBOL(neuralmon_products, neuralmon::batch_norm::products,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>());
