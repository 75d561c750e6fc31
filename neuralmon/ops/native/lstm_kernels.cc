// The LSTM over all steps of a few examples. A step is a matrix product whose sums become gates, or gradients of gates,
// while they are still in registers; the matrix stays in the cache.
#include "lstm.h"

#include "vectors.h"

namespace neuralmon::lstm {
namespace {

constexpr int kGates = 4;
constexpr int kWidth = 4;                       // vectors side by side in a product
constexpr int kRows = REGISTERS >= 32 ? 6 : 2;  // of a product, held in registers
constexpr float kLog2E = 1.44269504f, kLog2ERest = 1.92596303e-8f;

// e^x for x from -87 to 87, and beyond what it is there, with an error of about one unit in the last place.
inline INLINED Vector exp(Vector x) {
  x = x < -87.0f ? all(-87.0f) : x;
  x = x > 87.0f ? all(87.0f) : x;
  const Vector rounded = x * kLog2E + kRounding;
  return power_of_two(rounded, x * kLog2ERest + (x * kLog2E - (rounded - kRounding)));
}

inline INLINED Vector sigmoid(Vector x) { return 1.0f / (1.0f + exp(-x)); }

// By a polynomial near 0, where 1 - 2 / (1 + e^2x) would lose digits.
inline INLINED Vector tanh(Vector x) {
  const Ints sign = (Ints)x & (int)0x80000000;
  const Vector size = (Vector)((Ints)x ^ sign);
  const Vector far = 1.0f - 2.0f / (1.0f + exp(2.0f * size));
  const Vector square = x * x;
  Vector p = -6.65357078e-3f * square + 2.13017024e-2f;
  p = p * square - 5.38999714e-2f;
  p = p * square + 1.33329707e-1f;
  p = p * square - 3.33333270e-1f;
  const Vector near = x + x * square * p;
  return size < 0.5f ? near : (Vector)((Ints)far | sign);
}

// Adds to sums[i][v], i < kCount, the sums over t < depth of a[i][t] * b[t][v].
template <int kVectors, int kCount>
inline INLINED void add_products(const float* a, long a_step, const float* b, long depth, Vector (*sums)[kVectors]) {
  // An address may be a register plus 0, 1 or 2 times another one: three rows for each register.
  constexpr int kBases = (kCount + 2) / 3;
  const float* bases[kBases];
  UNROLL for (int i = 0; i < kBases; ++i) bases[i] = a + 3 * i * a_step;
  for (; depth > 0; depth -= 4) {
    UNROLL for (int t = 0; t < 4; ++t, b += kVectors * kLanes) {
      Vector w[kVectors];
      UNROLL for (int v = 0; v < kVectors; ++v) w[v] = load(b + v * kLanes);
      UNROLL for (int i = 0; i < kCount; ++i) {
        const float value = bases[i / 3][i % 3 * a_step + t];
        UNROLL for (int v = 0; v < kVectors; ++v) sums[i][v] += w[v] * value;
      }
    }
    UNROLL for (int i = 0; i < kBases; ++i) bases[i] += 4;
  }
}

// Calls tile(number of rows, as a constant; first row) until all rows from `first` to `last` had their turn.
template <int kValue>
struct Constant {
  static constexpr int value = kValue;
};
template <int kCount, typename Tile>
inline INLINED void call(long count, long row, const Tile& tile) {
  if constexpr (kCount > 0) {
    if (count == kCount) return tile(Constant<kCount>(), row);
    call<kCount - 1>(count, row, tile);
  }
}
template <typename Tile>
inline INLINED void in_tiles(long first, long last, const Tile& tile) {
  for (long tiles = (last - first + kRows - 1) / kRows; tiles > 0; --tiles) {
    const long count = (last - first + tiles - 1) / tiles;  // of about one size
    call<kRows>(count, first, tile);
    first += count;
  }
}

// Column block j of all gates together: to[j][k][gate][lane].
void pack_forward(const float* matrix, long features, float* to) {
  for (long j = 0; j < features; j += kLanes) {
    for (long k = 0; k < features; ++k) {
      for (int gate = 0; gate < kGates; ++gate, to += kLanes) {
        store(to, load(matrix + (k * kGates + gate) * features + j));
      }
    }
  }
}

void forward(const Forward& call) {
  const Part& part = call.part;
  const long size = part.features, gates_size = kGates * size;
  const float *hidden_before = call.hidden_before, *cell_before = call.cell_before;
  for (long step = 0; step < part.steps; ++step) {
    const long now = (part.reverse ? part.steps - 1 - step : step) * part.batch;
    const float* projected = call.projected + now * gates_size;
    float *hidden = call.hidden + now * size, *cell = call.cell + now * size, *gates = call.gates + now * gates_size;
    for (long j = 0; j < size; j += kLanes) {
      const float* panel = call.matrix + j * gates_size;
      in_tiles(part.first, part.last, [&](auto count, long row) INLINED {
        constexpr int kCount = decltype(count)::value;
        Vector sums[kCount][kGates];
        UNROLL for (int i = 0; i < kCount; ++i) {
          UNROLL for (int gate = 0; gate < kGates; ++gate) {
            sums[i][gate] = load(projected + (row + i) * gates_size + gate * size + j);
          }
        }
        add_products<kGates, kCount>(hidden_before + row * size, size, panel, size, sums);
        UNROLL for (int i = 0; i < kCount; ++i) {
          const long at = (row + i) * size + j;
          const Vector input = sigmoid(sums[i][0]), forget = sigmoid(sums[i][1]), candidate = tanh(sums[i][2]),
                       output = sigmoid(sums[i][3]);
          const Vector c = forget * load(cell_before + at) + input * candidate;
          float* to = gates + (row + i) * gates_size + j;
          store(to, input);
          store(to + size, forget);
          store(to + 2 * size, candidate);
          store(to + 3 * size, output);
          store(cell + at, c);
          store(hidden + at, output * tanh(c));
        }
      });
    }
    hidden_before = hidden, cell_before = cell;
  }
}

// Calls block(number of vectors, as a constant; first column) for blocks that make up all columns.
template <int kVectors = kWidth, typename Block>
inline INLINED void in_blocks(long columns, const Block& block, long first = 0) {
  for (; first + kVectors * kLanes <= columns; first += kVectors * kLanes) block(Constant<kVectors>(), first);
  if constexpr (kVectors > 1) in_blocks<kVectors / 2>(columns, block, first);
}

// The matrix transposed, a block of columns after the other: to[block][k][v][lane].
void pack_backward(const float* matrix, long features, float* to) {
  const long depth = kGates * features;
  in_blocks(features, [&](auto vectors, long first) {
    constexpr int kColumns = decltype(vectors)::value * kLanes;
    for (long k = 0; k < depth; ++k) {
      for (int j = 0; j < kColumns; ++j) *to++ = matrix[(first + j) * depth + k];
    }
  });
}

void backward(const Backward& call) {
  const Part& part = call.part;
  const long size = part.features, gates_size = kGates * size;
  auto start = [&](long step) { return (part.reverse ? part.steps - 1 - step : step) * part.batch; };

  // From the gradient of one step's hidden state, or of a vector of it, to those of its sums and of the cell before.
  auto through_step = [&](long step, long row, long j, Vector hidden_gradient) INLINED {
    const long now = start(step), at = row * size + j;
    const float* gates = call.gates + (now + row) * gates_size + j;
    const float* before = step > 0 ? call.cell + start(step - 1) * size : call.cell_before;
    const Vector input = load(gates), forget = load(gates + size), candidate = load(gates + 2 * size),
                 output = load(gates + 3 * size), shown = tanh(load(call.cell + now * size + at));
    const Vector dh = hidden_gradient + load(call.hidden_gradient + now * size + at);
    const Vector dc = load(call.cell_before_gradient + at) + dh * output * (1.0f - shown * shown);
    float* to = call.projected_gradient + (now + row) * gates_size + j;
    store(to, dc * candidate * input * (1.0f - input));
    store(to + size, dc * load(before + at) * forget * (1.0f - forget));
    store(to + 2 * size, dc * input * (1.0f - candidate * candidate));
    store(to + 3 * size, dh * shown * output * (1.0f - output));
    store(call.cell_before_gradient + at, dc * forget);
  };

  for (long row = part.first; row < part.last; ++row) {
    for (long j = 0; j < size; j += kLanes) {
      const long at = row * size + j;
      store(call.cell_before_gradient + at, load(call.last_cell_gradient + at));
      through_step(part.steps - 1, row, j, load(call.last_hidden_gradient + at));
    }
  }
  for (long step = part.steps - 1; step >= 0; --step) {
    const float* sums_gradient = call.projected_gradient + start(step) * gates_size;
    in_blocks(size, [&](auto vectors, long first) INLINED {
      constexpr int kVectors = decltype(vectors)::value;
      in_tiles(part.first, part.last, [&](auto count, long row) INLINED {
        constexpr int kCount = decltype(count)::value;
        Vector sums[kCount][kVectors] = {};
        add_products<kVectors, kCount>(sums_gradient + row * gates_size, gates_size, call.matrix + first * gates_size,
                                       gates_size, sums);
        UNROLL for (int i = 0; i < kCount; ++i) {
          UNROLL for (int v = 0; v < kVectors; ++v) {
            const long j = first + v * kLanes;
            if (step > 0) {
              through_step(step - 1, row + i, j, sums[i][v]);
            } else {
              store(call.hidden_before_gradient + (row + i) * size + j, sums[i][v]);
            }
          }
        }
      });
    });
  }
}

// Adds to sums[i][v], i < kCount, the sums over t < depth of a[t][i] * b[t][v].
template <int kVectors, int kCount>
inline INLINED void add_outer(const float* a, long a_step, const float* b, long depth, Vector (*sums)[kVectors]) {
  for (; depth > 0; --depth, a += a_step, b += kVectors * kLanes) {
    Vector w[kVectors];
    UNROLL for (int v = 0; v < kVectors; ++v) w[v] = load(b + v * kLanes);
    UNROLL for (int i = 0; i < kCount; ++i) {
      UNROLL for (int v = 0; v < kVectors; ++v) sums[i][v] += w[v] * a[i];
    }
  }
}

constexpr long kDepth = 256;  // examples of one step or of several, whose gradients are copied to lie together

void matrix_gradient(const MatrixGradient& call) {
  const Part& part = call.part;
  const long size = part.features, gates_size = kGates * size, all_rows = part.steps * part.batch;
  // Hidden states lie one step behind the gradients they are multiplied by, or one before them.
  const long edge = part.reverse ? all_rows - part.batch : 0, shift = part.reverse ? part.batch : -part.batch;
  auto rows = [&](long from, long to, const float* hidden, bool add) INLINED {
    in_blocks(part.last - part.first, [&](auto vectors, long first) INLINED {
      constexpr int kVectors = decltype(vectors)::value;
      const float* gradient = call.projected_gradient + from * gates_size + part.first + first;
      for (long t = 0; t < to - from; ++t) {
        UNROLL for (int v = 0; v < kVectors; ++v) {
          store(call.scratch + (t * kVectors + v) * kLanes, load(gradient + t * gates_size + v * kLanes));
        }
      }
      in_tiles(0, size, [&](auto count, long row) INLINED {
        constexpr int kCount = decltype(count)::value;
        Vector sums[kCount][kVectors] = {};
        add_outer<kVectors, kCount>(hidden + row, size, call.scratch, to - from, sums);
        UNROLL for (int i = 0; i < kCount; ++i) {
          UNROLL for (int v = 0; v < kVectors; ++v) {
            float* to = call.matrix_gradient + (row + i) * gates_size + part.first + first + v * kLanes;
            store(to, add ? load(to) + sums[i][v] : sums[i][v]);
          }
        }
      });
    });
  };
  auto chunks = [&](long first, long last, const float* hidden, bool add) {
    for (long from = first; from < last; from += kDepth, add = true) {
      rows(from, from + kDepth < last ? from + kDepth : last, hidden + (from - first) * size, add);
    }
  };
  chunks(edge, edge + part.batch, call.hidden_before, false);
  const long first = part.reverse ? 0 : part.batch;
  chunks(first, first + all_rows - part.batch, call.hidden + (first + shift) * size, true);
}

}  // namespace

extern const Kernels LEVEL = {pack_forward, forward,          pack_backward, backward, kWidth* kLanes,
                              kDepth* kWidth* kLanes, matrix_gradient};

}  // namespace neuralmon::lstm
