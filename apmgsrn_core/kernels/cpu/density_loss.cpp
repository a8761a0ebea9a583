// The published density loss and its gradient; readable twin: `density_loss` in `apmgsrn_core/network/encoding.py`.
#include <algorithm>
#include <cmath>
#include <vector>

#include "matrix.h"
#include "passes.h"
#include "thread_pool.h"
#include "tiles.h"

namespace apm {
namespace {

constexpr float TINY = 1e-16f;
constexpr double NORMALISER = 15.749609945722419;  // (2 pi)^(3/2)

// A sum in the order of the elements.
template <class Value>
double total(int64_t n, const Value& value) {
  double sum = 0.0;
  for (int64_t i = 0; i < n; ++i) sum += value(i);
  return sum;
}

}  // namespace

double find_density_loss(const Kernels& kernels, const float* transforms, int m, const float* points,
                         const float* squared_error, int64_t n, int threads, float* transform_gradient) {
  std::fill_n(transform_gradient, 12 * static_cast<size_t>(m), 0.0f);
  if (n == 0) return 0.0;
  const std::vector<int32_t> order = sorted_order(points, n);
  const int tiles = static_cast<int>((n + TILE - 1) / TILE);
  std::vector<float> coefficients(m), density(static_cast<size_t>(tiles) * TILE), target(density.size()), log_density(n), log_target(n);
  for (int g = 0; g < m; ++g) {
    double cofactor[3][3];
    find_cofactors(transforms + 12 * g, cofactor);
    coefficients[g] = static_cast<float>(determinant(transforms + 12 * g, cofactor) / NORMALISER);
  }
  std::vector<Tile> kept(tiles);
  parallel(tiles, threads, [&](int t, int) {
    fill_tile(kept[t], points, order.data(), static_cast<int64_t>(t) * TILE, n);
    kernels.density(transforms, coefficients.data(), m, kept[t], density.data() + static_cast<size_t>(t) * TILE);
  });
  // p = density / its sum; target q ~ p^(mean error / error); loss = mean of q (log q - log p)
  const double density_sum = total(n, [&](int64_t i) { return density[i]; });
  const float mean_error = static_cast<float>(total(n, [&](int64_t i) { return squared_error[i]; }) / n);
  parallel(tiles, threads, [&](int t, int) {
    for (int i = t * TILE; i < std::min<int64_t>((t + 1) * TILE, n); ++i) {
      density[i] = static_cast<float>(density[i] / density_sum);
      log_density[i] = std::log(density[i] + TINY);
      log_target[i] = log_density[i] * (mean_error / (squared_error[order[i]] + TINY));
      target[i] = std::exp(log_target[i]);
    }
  });
  const double target_sum = total(n, [&](int64_t i) { return target[i]; });
  const float log_target_sum = static_cast<float>(std::log(target_sum));
  std::vector<double> losses(tiles);
  parallel(tiles, threads, [&](int t, int) {
    for (int i = t * TILE; i < (t + 1) * TILE; ++i) {
      if (i >= n) {
        density[i] = 0.0f;
        continue;
      }
      const float p = density[i] + TINY, q = static_cast<float>(target[i] / target_sum) + TINY;
      const float log_q = q > 1e6f * TINY ? log_target[i] - log_target_sum : std::log(q);  // where TINY does not count
      losses[t] += q * (log_q - log_density[i]);
      density[i] = static_cast<float>(-q / (p * density_sum * n));  // slope of the loss
    }
  });
  parallel(m, threads, [&](int g, int) {
    double sums[13] = {}, cofactor[3][3];
    for (int t = 0; t < tiles; ++t)
      kernels.density_backward(transforms + 12 * g, coefficients[g], kept[t], density.data() + static_cast<size_t>(t) * TILE, sums);
    find_cofactors(transforms + 12 * g, cofactor);
    for (int r = 0; r < 3; ++r)
      for (int c = 0; c < 4; ++c) {
        const double change = c < 3 ? sums[12] * cofactor[r][c] / NORMALISER : 0.0;  // of the coefficient
        transform_gradient[12 * g + 4 * r + c] = static_cast<float>(sums[4 * r + c] + change);
      }
  });
  return total(tiles, [&](int64_t t) { return losses[t]; }) / n;
}

}  // namespace apm
