// The published density loss and its gradient; readable twin: `density_loss` in `apmgsrn_core/encoding.py`.
#include <algorithm>
#include <cmath>
#include <vector>

#include "passes.h"
#include "thread_pool.h"
#include "tiles.h"

namespace apm {
namespace {

constexpr float TINY = 1e-16f;
constexpr double NORMALISER = 15.749609945722419;  // (2 pi)^(3/2)

double determinant(const float* t) {
  const double a = t[0], b = t[1], c = t[2], d = t[4], e = t[5], f = t[6], g = t[8], h = t[9], i = t[10];
  return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g);
}

// Cofactors: the derivative of the determinant by each entry of the 3 x 3 part.
void cofactors(const float* t, double (&out)[12]) {
  for (int r = 0; r < 3; ++r)
    for (int c = 0; c < 3; ++c) {
      const int r1 = (r + 1) % 3, r2 = (r + 2) % 3, c1 = (c + 1) % 3, c2 = (c + 2) % 3;
      out[4 * r + c] = static_cast<double>(t[4 * r1 + c1]) * t[4 * r2 + c2] - static_cast<double>(t[4 * r1 + c2]) * t[4 * r2 + c1];
    }
  out[3] = out[7] = out[11] = 0.0;
}

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
  std::vector<float> coefficients(m), density(static_cast<size_t>(tiles) * TILE), target(density.size());
  for (int g = 0; g < m; ++g) coefficients[g] = static_cast<float>(determinant(transforms + 12 * g) / NORMALISER);
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
      target[i] = std::exp(std::log(density[i] + TINY) * (mean_error / (squared_error[order[i]] + TINY)));
    }
  });
  const double target_sum = total(n, [&](int64_t i) { return target[i]; });
  std::vector<double> losses(tiles);
  parallel(tiles, threads, [&](int t, int) {
    for (int i = t * TILE; i < (t + 1) * TILE; ++i) {
      if (i >= n) {
        density[i] = 0.0f;
        continue;
      }
      const float p = density[i] + TINY, q = static_cast<float>(target[i] / target_sum) + TINY;
      losses[t] += q * (std::log(q) - std::log(p));
      density[i] = static_cast<float>(-q / (p * density_sum * n));  // slope of the loss
    }
  });
  parallel(m, threads, [&](int g, int) {
    double sums[13] = {}, change[12];
    for (int t = 0; t < tiles; ++t)
      kernels.density_backward(transforms + 12 * g, coefficients[g], kept[t], density.data() + static_cast<size_t>(t) * TILE, sums);
    cofactors(transforms + 12 * g, change);
    for (int k = 0; k < 12; ++k) transform_gradient[12 * g + k] = static_cast<float>(sums[k] + sums[12] * change[k] / NORMALISER);
  });
  return total(tiles, [&](int64_t t) { return losses[t]; }) / n;
}

}  // namespace apm
