// The inner loops of attention, compiled once for each instruction set.
#pragma once

namespace neuralmon::attention {

struct Sizes {
  long queries, keys, heads, dim, value_dim;
};

// Which keys a block of queries sees: none outside [first, last); in there key k is seen by query i of the block where
// bit i of bits[k] is set, or by all of them where there are no bits.
struct Seen {
  long first, last;
  const unsigned* bits;
};

// One head: arrays as [time][heads][dim], from this head's first value on; `lse` as [queries].
struct Forward {
  Sizes sizes;
  const float *query, *key, *value;
  const Seen* seen;  // of block i: seen[i * seen_step]
  long seen_step;
  float *outputs, *lse;
};

struct Backward {
  Sizes sizes;
  const float *query, *key, *value;
  const Seen* seen;
  long seen_step;
  const float *outputs, *lse, *gradient;
  float *query_gradient, *key_gradient, *value_gradient;
};

struct Kernels {
  long queries;  // in a block
  long (*forward_floats)(const Sizes&);
  void (*forward)(const Forward&, long first_block, long last_block, float* scratch);
  long (*backward_floats)(const Sizes&);
  void (*backward)(const Backward&, float* scratch);
};

extern const Kernels kPortable, kAvx2, kAvx512;  // the latter two on x86-64 only

}  // namespace neuralmon::attention
