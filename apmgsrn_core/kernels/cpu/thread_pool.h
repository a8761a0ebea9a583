// Threads that sleep while there is nothing to do, so that a shared core stays free for others.
#pragma once
#include <functional>

namespace apm {

// Call work(item, thread) once for each item below `count`, on at most `threads` threads, the caller being thread 0.
// Which thread takes which item is left open: results must not depend on it. One call at a time runs in parallel; a call
// from a second thread of the program, or from inside `work`, runs alone on its own thread. `work` must not throw: what
// needs memory is made before.
void parallel(int count, int threads, const std::function<void(int item, int thread)>& work);

}  // namespace apm
