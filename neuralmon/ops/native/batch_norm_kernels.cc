// Sums over rows: a strip of columns at a time, whose sums stay in registers.
#include "batch_norm.h"

#include "vectors.h"

namespace neuralmon::batch_norm {
namespace {

constexpr int kWidth = REGISTERS / 4;  // vectors of a strip

// What a strip is made of: vectors, or single floats for the last columns.
struct Vectors {
  static constexpr int lanes = kLanes;
  using Type = Vector;
  static INLINED Vector load(const float* from) { return neuralmon::load(from); }
  static INLINED void store(float* to, Vector values) { neuralmon::store(to, values); }
};
struct Floats {
  static constexpr int lanes = 1;
  using Type = float;
  static INLINED float load(const float* from) { return *from; }
  static INLINED void store(float* to, float value) { *to = value; }
};
template <typename Parts, int kCount>
struct Shape : Parts {
  static constexpr int count = kCount;
};

// Calls strip(shape, first column) for strips that make up all columns.
template <typename Parts = Vectors, int kCount = kWidth, typename Strip>
inline INLINED void in_strips(long columns, const Strip& strip, long first = 0) {
  for (; first + kCount * Parts::lanes <= columns; first += kCount * Parts::lanes) strip(Shape<Parts, kCount>(), first);
  if constexpr (kCount > 1) {
    in_strips<Parts, kCount / 2>(columns, strip, first);
  } else if constexpr (Parts::lanes > 1) {
    in_strips<Floats, kWidth>(columns, strip, first);
  }
}

void moments(Block block, const float* x, float* mean, float* rest, float* squares) {
  in_strips(block.width, [&](auto shape, long first) INLINED {
    using S = decltype(shape);
    using V = typename S::Type;
    constexpr int n = S::count;
    const float* from = x + first;
    V sums[n] = {};
    for (long row = 0; row < block.rows; ++row) {
      UNROLL for (int v = 0; v < n; ++v) sums[v] += S::load(from + row * block.width + v * S::lanes);
    }
    V means[n], rests[n] = {}, all_squares[n] = {};
    UNROLL for (int v = 0; v < n; ++v) means[v] = sums[v] * (1.0f / block.rows);
    for (long row = 0; row < block.rows; ++row) {
      UNROLL for (int v = 0; v < n; ++v) {
        const V d = S::load(from + row * block.width + v * S::lanes) - means[v];
        rests[v] += d;
        all_squares[v] += d * d;
      }
    }
    UNROLL for (int v = 0; v < n; ++v) {
      S::store(mean + first + v * S::lanes, means[v]);
      S::store(rest + first + v * S::lanes, rests[v]);
      S::store(squares + first + v * S::lanes, all_squares[v]);
    }
  });
}

void products(Block block, const float* a, const float* x, const float* mean, float* sums, float* products) {
  in_strips(block.width, [&](auto shape, long first) INLINED {
    using S = decltype(shape);
    using V = typename S::Type;
    constexpr int n = S::count;
    V means[n], all_sums[n] = {}, all_products[n] = {};
    UNROLL for (int v = 0; v < n; ++v) means[v] = S::load(mean + first + v * S::lanes);
    for (long row = 0; row < block.rows; ++row) {
      UNROLL for (int v = 0; v < n; ++v) {
        const long at = row * block.width + first + v * S::lanes;
        const V value = S::load(a + at);
        all_sums[v] += value;
        all_products[v] += value * (S::load(x + at) - means[v]);
      }
    }
    UNROLL for (int v = 0; v < n; ++v) {
      S::store(sums + first + v * S::lanes, all_sums[v]);
      S::store(products + first + v * S::lanes, all_products[v]);
    }
  });
}

}  // namespace

extern const Kernels LEVEL = {moments, products};

}  // namespace neuralmon::batch_norm
