// Scaled dot-product attention of float32 and its gradients, without a matrix of all queries and keys. One unit of work
// is one head of one example.
#include <cstdint>
#include <vector>

#include "attention_kernels.h"
#include "levels.h"
#include "threads.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace neuralmon::attention {
namespace {

using Dimensions = ffi::Span<const int64_t>;
using Input = ffi::Buffer<ffi::F32>;
using Output = ffi::ResultBuffer<ffi::F32>;
using Mask = ffi::Buffer<ffi::PRED>;

const Kernels& kernels() { return TABLE; }

long ceil_div(long a, long b) { return (a + b - 1) / b; }

struct Problem {
  Sizes sizes;
  long units;

  Problem(Dimensions query, Dimensions key, Dimensions value)
      : sizes{query[1], key[1], query[2], query[3], value[3]}, units(query[0] * query[2]) {}

  double operations() const {
    return 2.0 * units * sizes.queries * sizes.keys * (sizes.dim + sizes.value_dim);
  }
  // Where the head of a unit begins in an array [batch, time, heads, dim].
  template <typename Buffer>
  float* head(const Buffer& of, long unit) const {
    const auto dims = of.dimensions();
    return of.typed_data() + (unit / sizes.heads * dims[1] * sizes.heads + unit % sizes.heads) * dims[3];
  }
};

// Which keys each block of queries sees, by a mask whose axes are full or 1.
class Visibility {
 public:
  Visibility(ffi::ThreadPool& pool, const Problem& problem, const Mask& mask)
      : problem_(problem), examples_(mask.dimensions()[0]), heads_(mask.dimensions()[1]) {
    const long queries = mask.dimensions()[2], keys = problem.sizes.keys, width = kernels().queries;
    const bool one_key = mask.dimensions()[3] == 1;
    blocks_ = ceil_div(queries, width);
    const long masks = examples_ * heads_;
    seen_.resize(masks * blocks_);
    unsigned* all_bits = kept<unsigned, 0>(masks * blocks_ * keys);
    const unsigned full = width == 32 ? ~0u : (1u << width) - 1;

    in_parallel(pool, masks * blocks_, double(masks) * queries * keys, [&](long index) {
      const long start = index % blocks_ * width, count = std::min(width, queries - start);
      const bool* rows = mask.typed_data() + (index / blocks_ * queries + start) * (one_key ? 1 : keys);
      unsigned* bits = all_bits + index * keys;
      // There is nothing to be seen by queries behind the last one, and no harm in it.
      std::fill(bits, bits + keys, count < width && queries > 1 ? full & ~0u << count : 0);
      for (long i = 0; i < count; ++i) {
        const unsigned bit = queries == 1 ? full : 1u << i;
        if (one_key) {
          for (long k = 0; k < keys; ++k) bits[k] |= rows[i] ? bit : 0;
        } else {
          const bool* row = rows + i * keys;
          for (long k = 0; k < keys; ++k) bits[k] |= -unsigned(row[k]) & bit;
        }
      }
      const unsigned real = queries == 1 || count == width ? full : (1u << count) - 1;
      long first = 0, last = keys;
      while (first < last && !(bits[first] & real)) ++first;
      while (first < last && !(bits[last - 1] & real)) --last;
      const bool open = std::all_of(bits + first, bits + last, [&](unsigned b) { return b == full; });
      seen_[index] = {first, last, open ? nullptr : bits};
    });
  }
  // Of the first block of a unit's queries, and how far it is from there to the next block's.
  const Seen* of(long unit) const {
    const long heads = problem_.sizes.heads;
    const long example = examples_ == 1 ? 0 : unit / heads, head = heads_ == 1 ? 0 : unit % heads;
    return &seen_[(example * heads_ + head) * blocks_];
  }
  long step() const { return blocks_ == ceil_div(problem_.sizes.queries, kernels().queries) ? 1 : 0; }

 private:
  const Problem& problem_;
  long examples_, heads_, blocks_;
  std::vector<Seen> seen_;
};

ffi::Error forward(ffi::ThreadPool pool, Input query, Input key, Input value, Mask mask, Output outputs, Output lse) {
  const Problem problem(query.dimensions(), key.dimensions(), value.dimensions());
  if (problem.units == 0 || problem.sizes.queries == 0) return ffi::Error::Success();
  const Visibility seen(pool, problem, mask);
  const long blocks = ceil_div(problem.sizes.queries, kernels().queries);
  // Few heads are cut into parts, so that there is something to do for every thread.
  const long parts = std::min(blocks, ceil_div(16, problem.units));
  in_parallel(pool, problem.units * parts, problem.operations(), [&](long index) {
    const long unit = index / parts, part = index % parts;
    const Forward call{problem.sizes, problem.head(query, unit), problem.head(key, unit), problem.head(value, unit),
                       seen.of(unit), seen.step(), problem.head(*outputs, unit),
                       lse->typed_data() + unit * problem.sizes.queries};
    float* scratch = kept<float, 0>(kernels().forward_floats(problem.sizes));
    kernels().forward(call, blocks * part / parts, blocks * (part + 1) / parts, scratch);
  });
  return ffi::Error::Success();
}

ffi::Error backward(ffi::ThreadPool pool, Input query, Input key, Input value, Mask mask, Input outputs, Input lse,
                    Input gradient, Output query_gradient, Output key_gradient, Output value_gradient) {
  const Problem problem(query.dimensions(), key.dimensions(), value.dimensions());
  if (problem.units == 0) return ffi::Error::Success();
  const Visibility seen(pool, problem, mask);
  in_parallel(pool, problem.units, 2.5 * problem.operations(), [&](long unit) {
    const Backward call{problem.sizes, problem.head(query, unit), problem.head(key, unit), problem.head(value, unit),
                        seen.of(unit), seen.step(), problem.head(outputs, unit),
                        lse.typed_data() + unit * problem.sizes.queries, problem.head(gradient, unit),
                        problem.head(*query_gradient, unit), problem.head(*key_gradient, unit),
                        problem.head(*value_gradient, unit)};
    kernels().backward(call, kept<float, 0>(kernels().backward_floats(problem.sizes)));
  });
  return ffi::Error::Success();
}

}  // namespace
}  // namespace neuralmon::attention

XLA_FFI_DEFINE_HANDLER_SYMBOL(neuralmon_attention, neuralmon::attention::forward,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::PRED>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>());

XLA_FFI_DEFINE_HANDLER_SYMBOL(neuralmon_attention_gradients, neuralmon::attention::backward,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::PRED>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>());
