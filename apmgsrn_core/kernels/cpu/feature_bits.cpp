// Features learned to be rounded, in parts on many threads; each number is computed alone.
#include <algorithm>

#include "passes.h"
#include "thread_pool.h"

namespace apm {
namespace {

constexpr int64_t PART = 1 << 14;

template <class Work>
void in_parts(int64_t count, int threads, const Work& work) {
  parallel(static_cast<int>((count + PART - 1) / PART), threads,
           [&](int part, int) { work(part * PART, std::min((part + 1) * PART, count)); });
}

}  // namespace

void disturb(const Kernels& kernels, const float* features, float* disturbed, int64_t count, float step,
             const uint32_t* seed, int threads) {
  in_parts(count, threads, [&](int64_t first, int64_t stop) {
    if (seed)
      kernels.disturb_features(features, disturbed, first, stop, step, *seed);
    else
      kernels.round_features(features, disturbed, first, stop, step);
  });
}

void add_slopes_of_bits(const Kernels& kernels, float* gradient, const float* features, const float* scales, int64_t count,
                        float step, float weight, int threads) {
  in_parts(count, threads, [&](int64_t first, int64_t stop) {
    kernels.add_bit_slopes(gradient, features, scales, first, stop, step, weight);
  });
}

}  // namespace apm
