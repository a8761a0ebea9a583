// The optimiser's step. Readable twin: `apmgsrn_core/training/optimizer.py`.
#include <algorithm>
#include <cmath>

#include "interface.h"
#include "thread_pool.h"

extern "C" void apm_adam(float* values, const float* gradient, float* mean, float* square, int64_t count, int64_t step,
                         double rate, double beta_1, double beta_2, double epsilon, int threads) {
  constexpr int64_t PART = 1 << 14;
  const float b1 = static_cast<float>(beta_1), b2 = static_cast<float>(beta_2), eps = static_cast<float>(epsilon);
  const float size = static_cast<float>(rate / (1.0 - std::pow(beta_1, static_cast<double>(step))));
  const float unbias = static_cast<float>(1.0 / std::sqrt(1.0 - std::pow(beta_2, static_cast<double>(step))));
  apm::parallel(static_cast<int>((count + PART - 1) / PART), threads, [=](int part, int) {
    const int64_t stop = std::min((part + 1) * PART, count);
    for (int64_t i = part * PART; i < stop; ++i) {
      const float g = gradient[i];
      mean[i] = b1 * mean[i] + (1.0f - b1) * g;
      square[i] = b2 * square[i] + (1.0f - b2) * g * g;
      values[i] -= size * mean[i] / (std::sqrt(square[i]) * unbias + eps);
    }
  });
}
