// Which of the loops that were compiled for several instruction sets this process runs.
#pragma once

namespace neuralmon {

enum class Level { kPortable, kAvx2, kAvx512 };

// The best one for this machine, or the lesser one that NEURALMON_NATIVE names; the same at all times.
Level level();

}  // namespace neuralmon

// Of the tables kPortable, kAvx2 and kAvx512 that are in scope, that of this level.
#ifdef __x86_64__
#define TABLE (level() == Level::kAvx512 ? kAvx512 : level() == Level::kAvx2 ? kAvx2 : kPortable)
#else
#define TABLE kPortable
#endif
