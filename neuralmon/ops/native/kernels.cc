#include "kernels.h"

#include "vectors.h"

namespace neuralmon {
namespace {

constexpr int kAccumulators = REGISTERS - 4;  // the rest hold weights and inputs
constexpr int kMaxVectors = 4;
constexpr int kMaxPixels = 16;
constexpr int kMaxValues = 24;

inline INLINED Vector load_some(const float* from, long count) {
  Vector some = {};
  for (long i = 0; i < count; ++i) some[i] = from[i];
  return some;
}

inline INLINED void store_some(float* to, Vector values, long count) {
  if (count >= kLanes) {
    store(to, values);
  } else {
    for (long i = 0; i < count; ++i) to[i] = values[i];
  }
}

template <int kVectors, int kPixels>
void outputs_block(const Tap* taps, long num_taps, long depth, long step, float* out, long out_step, long channels) {
  // An address may be a register plus 0, 1 or 2 times another one: three pixels for each register.
  constexpr int kBases = (kPixels + 2) / 3;
  Vector sums[kPixels][kVectors] = {};
  for (long t = 0; t < num_taps; ++t) {
    const float* bases[kBases];
    UNROLL for (int b = 0; b < kBases; ++b) bases[b] = taps[t].inputs + 3 * b * step;
    const float* weights = taps[t].weights;
    auto channel = [&](int offset) INLINED {
      Vector w[kVectors];
      UNROLL for (int v = 0; v < kVectors; ++v) w[v] = load(weights + (offset * kVectors + v) * kLanes);
      UNROLL for (int p = 0; p < kPixels; ++p) {
        float value = bases[p / 3][p % 3 * step + offset];
        UNROLL for (int v = 0; v < kVectors; ++v) sums[p][v] += w[v] * value;
      }
    };
    long left = depth;
    for (; left >= 4; left -= 4) {
      channel(0), channel(1), channel(2), channel(3);
      UNROLL for (int b = 0; b < kBases; ++b) bases[b] += 4;
      weights += 4 * kVectors * kLanes;
    }
    for (; left > 0; --left) {
      channel(0);
      UNROLL for (int b = 0; b < kBases; ++b) bases[b] += 1;
      weights += kVectors * kLanes;
    }
  }
  UNROLL for (int p = 0; p < kPixels; ++p) {
    UNROLL for (int v = 0; v < kVectors; ++v) {
      if (v * kLanes < channels) store_some(out + p * out_step + v * kLanes, sums[p][v], channels - v * kLanes);
    }
  }
}

template <int kVectors, int kValues>
void products_block(const float* inputs, long in_row, long in_step, const float* gradients, long gradient_row,
                    long gradient_step, long rows, long pixels, float* sums, long sums_step, long channels) {
  Vector products[kValues][kVectors] = {};
  const bool whole = channels >= kVectors * kLanes;
  for (long r = 0; r < rows; ++r) {
    const float* in = inputs + r * in_row;
    const float* gradient = gradients + r * gradient_row;
    for (long p = 0; p < pixels; ++p, in += in_step, gradient += gradient_step) {
      Vector g[kVectors];
      UNROLL for (int v = 0; v < kVectors; ++v) {
        g[v] = whole ? load(gradient + v * kLanes) : Vector{};
        if (!whole && v * kLanes < channels) {
          g[v] = load_some(gradient + v * kLanes, channels - v * kLanes < kLanes ? channels - v * kLanes : kLanes);
        }
      }
      UNROLL for (int a = 0; a < kValues; ++a) {
        UNROLL for (int v = 0; v < kVectors; ++v) products[a][v] += g[v] * in[a];
      }
    }
  }
  UNROLL for (int a = 0; a < kValues; ++a) {
    UNROLL for (int v = 0; v < kVectors; ++v) {
      long count = channels - v * kLanes;
      float* to = sums + a * sums_step + v * kLanes;
      if (count >= kLanes) {
        *(Vector*)to += products[a][v];
      } else {
        for (long i = 0; i < count; ++i) to[i] += products[a][v][i];
      }
    }
  }
}

using OutputsBlock = void (*)(const Tap*, long, long, long, float*, long, long);
using ProductsBlock = void (*)(const float*, long, long, const float*, long, long, long, long, float*, long, long);

// Blocks of 1 to `kMost` pixels (or values), as far as the accumulators reach.
struct Tables {
  OutputsBlock outputs[kMaxVectors + 1][kMaxPixels + 1] = {};
  ProductsBlock products[kMaxVectors + 1][kMaxValues + 1] = {};

  template <int kVectors, int kPixels>
  constexpr void fill_outputs() {
    if constexpr (kPixels >= 1) {
      outputs[kVectors][kPixels] = outputs_block<kVectors, kPixels>;
      fill_outputs<kVectors, kPixels - 1>();
    }
  }
  template <int kVectors, int kValues>
  constexpr void fill_products() {
    if constexpr (kValues >= 1) {
      products[kVectors][kValues] = products_block<kVectors, kValues>;
      fill_products<kVectors, kValues - 1>();
    }
  }
  static constexpr int at_most(int most, int vectors) {
    return kAccumulators / vectors < most ? kAccumulators / vectors : most;
  }
  constexpr Tables() {
    fill_outputs<1, at_most(kMaxPixels, 1)>();
    fill_outputs<2, at_most(kMaxPixels, 2)>();
    fill_outputs<4, at_most(kMaxPixels, 4)>();
    fill_products<1, at_most(kMaxValues, 1)>();
    fill_products<2, at_most(kMaxValues, 2)>();
  }
};
constexpr Tables kTables;

void outputs(long vectors, long pixels, const Tap* taps, long num_taps, long depth, long step, float* out,
             long out_step, long channels) {
  kTables.outputs[vectors][pixels](taps, num_taps, depth, step, out, out_step, channels);
}

void products(long vectors, long values, const float* inputs, long in_row, long in_step, const float* gradients,
              long gradient_row, long gradient_step, long rows, long pixels, float* sums, long sums_step,
              long channels) {
  kTables.products[vectors][values](inputs, in_row, in_step, gradients, gradient_row, gradient_step, rows, pixels,
                                    sums, sums_step, channels);
}

}  // namespace

extern const Kernels LEVEL = {kLanes, kAccumulators, outputs, products};

}  // namespace neuralmon
