// Attention of one head, block by block of queries and keys, so that scores and weights stay in the cache (Dao et al.,
// "FlashAttention", NeurIPS 2022). A block is kept transposed, its queries side by side in vectors: maxima, sums and
// weights are then taken without looking across a vector, and no product needs a transposed operand but the queries'.
#include "attention_kernels.h"

#include "vectors.h"

namespace neuralmon::attention {
namespace {

// The smaller a block of queries, the less is computed in vain along a causal mask's edge.
constexpr int kVectors = LANES >= 16 ? 1 : 2;   // of queries in a block
constexpr int kQueries = kVectors * kLanes;     // in a block, at most 32
constexpr int kRows = REGISTERS >= 32 ? 8 : 6;  // of a product, held in registers
constexpr long kKeys = 128;                     // in a block
constexpr float kLog2E = 1.44269504f, kLn2 = 0.693147181f;

inline INLINED Vector larger(Vector a, Vector b) { return a > b ? a : b; }

constexpr long whole_vectors(long count) { return (count + kLanes - 1) / kLanes * kLanes; }
inline INLINED long least(long a, long b) { return a < b ? a : b; }

// 2^x for x <= 128, with an error of about one unit in the last place; what would be denormal is 0.
inline INLINED Vector exp2(Vector x) {
  x = x < -127.0f ? all(-127.0f) : x;
  const Vector rounded = x + kRounding;
  return power_of_two(rounded, x - (rounded - kRounding));
}

// The natural logarithm of x * 2^shift, for x = 0 or normal: x = m * 2^e with m near 1, and the series of artanh.
inline INLINED Vector log_scaled(Vector x, Vector shift) {
  const Ints bits = (Ints)x - 0x3f3504f3;
  const Vector e = __builtin_convertvector(bits >> 23, Vector);
  const Vector m = (Vector)((bits & 0x7fffff) + 0x3f3504f3);
  const Vector s = (m - 1.0f) / (m + 1.0f), square = s * s;
  const Vector series = (((square * (2 / 9.0f) + 2 / 7.0f) * square + 2 / 5.0f) * square + 2 / 3.0f) * square * s;
  const Vector log = (e + shift) * kLn2 + (2.0f * s + series);
  return (x == 0.0f ? all(-__builtin_inff()) : log) + x * 0.0f;  // not a number stays so
}

template <int... kJ>
struct Lanes {};
template <int kCount, int... kJ>
struct Count : Count<kCount - 1, kCount - 1, kJ...> {};
template <int... kJ>
struct Count<0, kJ...> {
  using Result = Lanes<kJ...>;
};

// Exchanges the upper right and the lower left quarter of each square of 2 * kHalf rows and lanes.
template <int kHalf, int... kJ>
inline INLINED void exchange(Vector& a, Vector& b, Lanes<kJ...>) {
#ifdef __clang__
  const Vector low = __builtin_shufflevector(a, b, (kJ & kHalf ? kLanes + kJ - kHalf : kJ)...);
  b = __builtin_shufflevector(a, b, (kJ & kHalf ? kLanes + kJ : kJ + kHalf)...);
#else
  const Vector low = __builtin_shuffle(a, b, Ints{(kJ & kHalf ? kLanes + kJ - kHalf : kJ)...});
  b = __builtin_shuffle(a, b, Ints{(kJ & kHalf ? kLanes + kJ : kJ + kHalf)...});
#endif
  a = low;
}

template <int kHalf = kLanes / 2>
inline INLINED void transpose(Vector* rows) {
  if constexpr (kHalf > 0) {
    UNROLL for (int i = 0; i < kLanes; ++i) {
      if (!(i & kHalf)) exchange<kHalf>(rows[i], rows[i + kHalf], typename Count<kLanes>::Result());
    }
    transpose<kHalf / 2>(rows);
  }
}

// to[j][i] = from[i][j] * scale for the queries i of a block and `width` (whole vectors) j.
void transposed(const float* from, long width, float scale, float* to) {
  for (int v = 0; v < kVectors; ++v) {
    for (long j = 0; j < width; j += kLanes) {
      Vector rows[kLanes];
      UNROLL for (int i = 0; i < kLanes; ++i) rows[i] = load(from + (v * kLanes + i) * width + j) * scale;
      transpose(rows);
      UNROLL for (int i = 0; i < kLanes; ++i) store(to + (j + i) * kQueries + v * kLanes, rows[i]);
    }
  }
}

// products[i] = the sum of a[i][j] * b[i][j] over j.
void row_products(const float* a, const float* b, long width, float* products) {
  for (int v = 0; v < kVectors; ++v) {
    Vector rows[kLanes];
    for (int i = 0; i < kLanes; ++i) {
      const long at = (v * kLanes + i) * width;
      rows[i] = load(a + at) * load(b + at);
      for (long j = kLanes; j < width; j += kLanes) rows[i] += load(a + at + j) * load(b + at + j);
    }
    transpose(rows);
    Vector sum = rows[0];
    UNROLL for (int i = 1; i < kLanes; ++i) sum += rows[i];
    store(products + v * kLanes, sum);
  }
}

// Copies rows to where they lie together, with zeros up to whole vectors and to `all_rows`.
void pack(const float* from, long step, long rows, long columns, long all_rows, float* to) {
  const long width = whole_vectors(columns), most = columns / kLanes * kLanes;
  for (long i = 0; i < rows; ++i, from += step, to += width) {
    for (long j = 0; j < most; j += kLanes) store(to + j, load(from + j));
    for (long j = most; j < width; ++j) to[j] = j < columns ? from[j] : 0.0f;
  }
  for (long j = 0; j < (all_rows - rows) * width; j += kLanes) store(to + j, Vector{});
}

// The way back, row i times scales[i * scale_step].
void unpack(const float* from, long rows, long columns, const float* scales, long scale_step, float* to, long step) {
  const long width = whole_vectors(columns), most = columns / kLanes * kLanes;
  for (long i = 0; i < rows; ++i, from += width, to += step) {
    const float scale = scales[i * scale_step];
    for (long j = 0; j < most; j += kLanes) store(to + j, load(from + j) * scale);
    for (long j = most; j < columns; ++j) to[j] = from[j] * scale;
  }
}

void clear(float* to, long count) {
  for (long j = 0; j < count; j += kLanes) store(to + j, Vector{});
}

// How the left factor of a product lies: its rows are `step` apart and what is summed lies together, or the reverse.
enum class Left { kRows, kColumns };

// Hands out sums[i][v], i < kCount, the sums over t < depth of a[i, t] * b[t][v].
template <Left kLeft, int kWidth, int kCount, typename Use>
inline INLINED void tile(const float* a, long a_step, const float* b, long b_step, long depth, const Use& use) {
  Vector sums[kCount][kWidth] = {};
  auto term = [&](auto value) INLINED {
    Vector w[kWidth];
    UNROLL for (int v = 0; v < kWidth; ++v) w[v] = load(b + v * kLanes);
    UNROLL for (int i = 0; i < kCount; ++i) {
      UNROLL for (int v = 0; v < kWidth; ++v) sums[i][v] += w[v] * value(i);
    }
    b += b_step;
  };
  if constexpr (kLeft == Left::kColumns) {
    for (; depth > 0; --depth, a += a_step) term([&](int i) INLINED { return a[i]; });
  } else {
    // An address may be a register plus 0, 1 or 2 times another one: three rows for each register.
    constexpr int kBases = (kCount + 2) / 3;
    const float* bases[kBases];
    UNROLL for (int i = 0; i < kBases; ++i) bases[i] = a + 3 * i * a_step;
    for (; depth >= 4; depth -= 4) {
      UNROLL for (int t = 0; t < 4; ++t) term([&](int i) INLINED { return bases[i / 3][i % 3 * a_step + t]; });
      UNROLL for (int i = 0; i < kBases; ++i) bases[i] += 4;
    }
    for (; depth > 0; --depth) {
      term([&](int i) INLINED { return bases[i / 3][i % 3 * a_step]; });
      UNROLL for (int i = 0; i < kBases; ++i) bases[i] += 1;
    }
  }
  UNROLL for (int i = 0; i < kCount; ++i) use(i, sums[i]);
}

// Calls `use(row, vectors)` for all rows of a product.
template <Left kLeft, int kWidth, int kCount = kRows, typename Use>
inline INLINED void product(const float* a, long a_step, long rows, const float* b, long b_step, long depth, const Use& use) {
  long first = 0;
  if constexpr (kCount == kRows) {
    for (; first + kRows <= rows; first += kRows) {
      tile<kLeft, kWidth, kRows>(a + first * (kLeft == Left::kRows ? a_step : 1), a_step, b, b_step, depth,
                                 [&](int i, const Vector* sums) INLINED { use(first + i, sums); });
    }
  }
  if constexpr (kCount > 1) {
    if (rows - first == kCount - 1) {
      tile<kLeft, kWidth, kCount - 1>(a + first * (kLeft == Left::kRows ? a_step : 1), a_step, b, b_step, depth,
                                      [&](int i, const Vector* sums) INLINED { use(first + i, sums); });
    } else if (rows > first) {
      product<kLeft, kWidth, kCount - 1>(a + first * (kLeft == Left::kRows ? a_step : 1), a_step, rows - first, b,
                                         b_step, depth, [&](long i, const Vector* sums) INLINED { use(first + i, sums); });
    }
  }
}

// out[i][j] += the sum over t < depth of a[i, t] * b[t][j], for `width` (whole vectors) j.
template <Left kLeft>
void add_product(const float* a, long a_step, long rows, const float* b, long width, long depth, float* out) {
  long j = 0;
  for (; j + 2 * kLanes <= width; j += 2 * kLanes) {
    product<kLeft, 2>(a, a_step, rows, b + j, width, depth, [&](long i, const Vector* sums) INLINED {
      UNROLL for (int v = 0; v < 2; ++v) {
        float* to = out + i * width + j + v * kLanes;
        store(to, load(to) + sums[v]);
      }
    });
  }
  if (j < width) {
    product<kLeft, 1>(a, a_step, rows, b + j, width, depth, [&](long i, const Vector* sums) INLINED {
      store(out + i * width + j, load(out + i * width + j) + sums[0]);
    });
  }
}

// The scores of the v-th vector of queries where they are seen, else minus infinity.
inline INLINED Vector seen_only(Vector scores, const unsigned* bits, long key, int v) {
  if (!bits) return scores;
  Ints lane;
  UNROLL for (int i = 0; i < kLanes; ++i) lane[i] = 1 << i;
  const Ints seen = (int)(bits[key] >> (v * kLanes)) & lane;
  return seen != 0 ? scores : all(-__builtin_inff());
}

// A part of the scratch memory.
inline INLINED float* take(float*& scratch, long floats) {
  float* part = scratch;
  scratch += whole_vectors(floats);
  return part;
}

long forward_floats(const Sizes& s) {
  const long width = whole_vectors(s.dim), value_width = whole_vectors(s.value_dim);
  return s.keys * (width + value_width) + kQueries * (2 * width + value_width + kKeys);
}

void forward(const Forward& call, long first_block, long last_block, float* scratch) {
  const Sizes& s = call.sizes;
  const long width = whole_vectors(s.dim), value_width = whole_vectors(s.value_dim);
  const long step = s.heads * s.dim, value_step = s.heads * s.value_dim;
  const float scale = kLog2E / __builtin_sqrtf(s.dim);
  float *key = take(scratch, s.keys * width), *value = take(scratch, s.keys * value_width);
  float *query = take(scratch, kQueries * width), *query_t = take(scratch, kQueries * width);
  float *outputs = take(scratch, kQueries * value_width), *weights = take(scratch, kQueries * kKeys);
  pack(call.key, step, s.keys, s.dim, s.keys, key);
  pack(call.value, value_step, s.keys, s.value_dim, s.keys, value);

  for (long block = first_block; block < last_block; ++block) {
    const long start = block * kQueries, queries = least(kQueries, s.queries - start);
    const Seen seen = call.seen[block * call.seen_step];
    pack(call.query + start * step, step, queries, s.dim, kQueries, query);
    transposed(query, width, scale, query_t);
    clear(outputs, kQueries * value_width);
    Vector sums[kVectors] = {}, shifts[kVectors] = {}, maxima[kVectors];
    UNROLL for (int v = 0; v < kVectors; ++v) maxima[v] = all(-__builtin_inff());

    for (long from = seen.first; from < seen.last; from += kKeys) {
      const long keys = least(kKeys, seen.last - from);
      Vector most[kVectors];
      UNROLL for (int v = 0; v < kVectors; ++v) most[v] = maxima[v];
      const unsigned* bits = seen.bits ? seen.bits + from : nullptr;
      product<Left::kRows, kVectors>(key + from * width, width, keys, query_t, kQueries, s.dim,
                                     [&](long i, const Vector* scores) INLINED {
        UNROLL for (int v = 0; v < kVectors; ++v) {
          const Vector score = seen_only(scores[v], bits, i, v);
          most[v] = larger(score, most[v]);
          store(weights + i * kQueries + v * kLanes, score);
        }
      });
      float shrink[kQueries];
      UNROLL for (int v = 0; v < kVectors; ++v) {
        shifts[v] = most[v] == -__builtin_inff() ? Vector{} : most[v];  // of a query that saw nothing yet
        const Vector less = exp2(maxima[v] - shifts[v]);
        store(shrink + v * kLanes, less);
        sums[v] *= less;
        maxima[v] = most[v];
      }
      if (from > seen.first) unpack(outputs, kQueries, value_width, shrink, 1, outputs, value_width);
      for (long i = 0; i < keys; ++i) {
        UNROLL for (int v = 0; v < kVectors; ++v) {
          float* at = weights + i * kQueries + v * kLanes;
          const Vector weight = exp2(load(at) - shifts[v]);
          sums[v] += weight;
          store(at, weight);
        }
      }
      add_product<Left::kColumns>(weights, kQueries, queries, value + from * value_width, value_width, keys, outputs);
    }

    float scales[kQueries], lse[kQueries];
    UNROLL for (int v = 0; v < kVectors; ++v) {
      store(scales + v * kLanes, sums[v] == 0.0f ? Vector{} : 1.0f / sums[v]);
      store(lse + v * kLanes, log_scaled(sums[v], shifts[v]));
    }
    unpack(outputs, queries, s.value_dim, scales, 1, call.outputs + start * value_step, value_step);
    for (long i = 0; i < queries; ++i) call.lse[start + i] = lse[i];
  }
}

long backward_floats(const Sizes& s) {
  const long width = whole_vectors(s.dim), value_width = whole_vectors(s.value_dim);
  return (2 * s.keys + 3 * kQueries) * (width + value_width) + 2 * kQueries * kKeys;
}

void backward(const Backward& call, float* scratch) {
  const Sizes& s = call.sizes;
  const long width = whole_vectors(s.dim), value_width = whole_vectors(s.value_dim);
  const long step = s.heads * s.dim, value_step = s.heads * s.value_dim;
  const float scale = 1.0f / __builtin_sqrtf(s.dim), one = 1.0f;
  float *key = take(scratch, s.keys * width), *value = take(scratch, s.keys * value_width);
  float *key_gradient = take(scratch, s.keys * width), *value_gradient = take(scratch, s.keys * value_width);
  float *query = take(scratch, kQueries * width), *query_t = take(scratch, kQueries * width);
  float *query_gradient = take(scratch, kQueries * width), *outputs = take(scratch, kQueries * value_width);
  float *gradient = take(scratch, kQueries * value_width), *gradient_t = take(scratch, kQueries * value_width);
  float *weights = take(scratch, kQueries * kKeys), *score_gradients = take(scratch, kQueries * kKeys);
  pack(call.key, step, s.keys, s.dim, s.keys, key);
  pack(call.value, value_step, s.keys, s.value_dim, s.keys, value);
  clear(key_gradient, s.keys * width);
  clear(value_gradient, s.keys * value_width);

  for (long start = 0; start < s.queries; start += kQueries) {
    const long queries = least(kQueries, s.queries - start);
    const Seen seen = call.seen[start / kQueries * call.seen_step];
    pack(call.query + start * step, step, queries, s.dim, kQueries, query);
    pack(call.outputs + start * value_step, value_step, queries, s.value_dim, kQueries, outputs);
    pack(call.gradient + start * value_step, value_step, queries, s.value_dim, kQueries, gradient);
    transposed(query, width, scale * kLog2E, query_t);
    transposed(gradient, value_width, 1.0f, gradient_t);
    clear(query_gradient, kQueries * width);
    float products[kQueries], lse[kQueries];
    row_products(outputs, gradient, value_width, products);
    // Weights are 0 where there is no query, or one that sees nothing.
    for (long i = 0; i < kQueries; ++i) lse[i] = i < queries ? call.lse[start + i] : -__builtin_inff();
    Vector shifts[kVectors], means[kVectors];
    UNROLL for (int v = 0; v < kVectors; ++v) {
      const Vector sum = load(lse + v * kLanes);
      shifts[v] = sum == -__builtin_inff() ? all(__builtin_inff()) : sum * kLog2E;
      means[v] = load(products + v * kLanes);
    }

    for (long from = seen.first; from < seen.last; from += kKeys) {
      const long keys = least(kKeys, seen.last - from);
      const unsigned* bits = seen.bits ? seen.bits + from : nullptr;
      product<Left::kRows, kVectors>(key + from * width, width, keys, query_t, kQueries, s.dim,
                                     [&](long i, const Vector* scores) INLINED {
        UNROLL for (int v = 0; v < kVectors; ++v) {
          store(weights + i * kQueries + v * kLanes, exp2(seen_only(scores[v], bits, i, v) - shifts[v]));
        }
      });
      product<Left::kRows, kVectors>(value + from * value_width, value_width, keys, gradient_t, kQueries, s.value_dim,
                                     [&](long i, const Vector* weight_gradients) INLINED {
        UNROLL for (int v = 0; v < kVectors; ++v) {
          const long at = i * kQueries + v * kLanes;
          store(score_gradients + at, load(weights + at) * (weight_gradients[v] - means[v]));
        }
      });
      add_product<Left::kRows>(weights, kQueries, keys, gradient, value_width, queries,
                               value_gradient + from * value_width);
      add_product<Left::kRows>(score_gradients, kQueries, keys, query, width, queries, key_gradient + from * width);
      add_product<Left::kColumns>(score_gradients, kQueries, queries, key + from * width, width, keys, query_gradient);
    }
    unpack(query_gradient, queries, s.dim, &scale, 0, call.query_gradient + start * step, step);
  }
  unpack(key_gradient, s.keys, s.dim, &scale, 0, call.key_gradient, step);
  unpack(value_gradient, s.keys, s.value_dim, &one, 0, call.value_gradient, value_step);
}

}  // namespace

extern const Kernels LEVEL = {kQueries, forward_floats, forward, backward_floats, backward};

}  // namespace neuralmon::attention
