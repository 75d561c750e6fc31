#include "levels.h"

#include <cstdlib>
#include <cstring>

namespace neuralmon {
namespace {

Level best() {
#ifdef __x86_64__
  const char* wanted = std::getenv("NEURALMON_NATIVE");
  const bool portable = wanted && !std::strcmp(wanted, "portable");
  if (portable || !__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return Level::kPortable;
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw");
  return avx512 && !(wanted && !std::strcmp(wanted, "avx2")) ? Level::kAvx512 : Level::kAvx2;
#else
  return Level::kPortable;
#endif
}

}  // namespace

Level level() {
  static const Level found = best();
  return found;
}

}  // namespace neuralmon

extern "C" const char* neuralmon_level() {
  constexpr const char* names[] = {"portable", "avx2", "avx512"};
  return names[static_cast<int>(neuralmon::level())];
}
extern "C" const char* neuralmon_sources() { return NEURALMON_SOURCES; }
