// Vectors of one instruction set. What includes this is compiled several times, each with the flags of one instruction
// set and LEVEL, LANES and REGISTERS to go with them. Everything but its table is internal and no library header is
// included: the linker must not be able to replace a function of the whole program by a copy that was compiled for
// instructions this machine may not have.
#pragma once

#define INLINED __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 64")

namespace neuralmon {
namespace {

constexpr int kLanes = LANES;

typedef float Vector __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef int Ints __attribute__((vector_size(LANES * 4), aligned(4), may_alias));

inline INLINED Vector load(const float* from) { return *(const Vector*)from; }
inline INLINED void store(float* to, Vector values) { *(Vector*)to = values; }
inline INLINED Vector all(float value) { return value - Vector{}; }

// A number plus this has its whole part, and the exponent's bias, in the lowest bits.
constexpr float kRounding = 12583039.0f;

// 2^(whole + part) for rounded = whole + kRounding and part from -0.5 to 0.5, with an error of about one unit in the
// last place.
inline INLINED Vector power_of_two(Vector rounded, Vector part) {
  Vector p = 1.53533605e-4f * part + 1.33988750e-3f;
  p = p * part + 9.61843692e-3f;
  p = p * part + 5.55033237e-2f;
  p = p * part + 2.40226477e-1f;
  p = p * part + 6.93147182e-1f;
  p = p * part + 1.0f;
  return p * (Vector)((Ints)rounded << 23);
}

}  // namespace
}  // namespace neuralmon
