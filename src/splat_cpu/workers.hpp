// Shares work with a pool of threads, without ever waiting for a thread that has not begun.
//
// OpenMP ends every parallel region when all threads have arrived: on cores that other stages
// keep busy, each of a frame's ten regions then waits until the scheduler has run every thread.
// Here a late thread finds the work done by the others.  Idle threads sleep; they do not spin.
#pragma once

#include <functional>

namespace splat {

// Calls body(i) once for each i in [0, count), on this thread and up to `threads` - 1 others, in
// no fixed order; returns when all calls have.  Rethrows the first exception of a call.
void parallel_for(int count, int threads, const std::function<void(int)>& body);

// As many threads as there are processors for this process.
int default_threads();

}  // namespace splat
