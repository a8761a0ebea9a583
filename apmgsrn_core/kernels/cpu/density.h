// Feature density of placed grids and its slopes. Readable twin: `feature_density` in `apmgsrn_core/network/encoding.py`.
#pragma once

namespace {

using namespace apm;

constexpr float DENSITY_REACH = 1.25f;      // exp(-u^20 / 2) is below 1e-18 from there on
constexpr float LEAST_EXPONENT = -40.0f;    // 4e-18 counts as 0: products with less would be denormal, which are slow

// exp of a number from -40 to 0; relative error 2e-7.
inline V exponential(V a) {
  const V count = nearest(a * all(1.44269504f));
  V r = fma(count, all(-0.693359375f), a);
  r = fma(count, all(2.12194440e-4f), r);
  V p = all(1.9875691500e-4f);
  const float terms[] = {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f};
  for (float term : terms) p = fma(p, r, all(term));
  return times_power_of_2(fma(p, r * r, r + all(1.0f)), count);
}

inline V power19(V u, V& power20) {
  const V two = u * u, four = two * two, sixteen = (four * four) * (four * four);
  power20 = sixteen * four;
  return sixteen * two * u;
}

// exp(-1/2 sum of u^20) of one vector of points, and u^19 along each axis; false when it is 0 for all of them.
inline bool shape(const float* transform, const Tile& tile, int i, V& value, V (&power)[3]) {
  V local[3];
  to_local(transform, tile, i, local);
  const V reach = all(DENSITY_REACH);
  const Mask near = both(less(magnitude(local[0]), reach), both(less(magnitude(local[1]), reach), less(magnitude(local[2]), reach)));
  if (!bits(near)) return false;
  V total = zero(), power20;
  for (int a = 0; a < 3; ++a) {
    const V held = least(most(local[a], all(-DENSITY_REACH)), reach);
    power[a] = power19(held, power20);
    total = total + power20;
  }
  const V exponent = all(-0.5f) * total;
  const Mask counts = both(near, less(all(LEAST_EXPONENT), exponent));
  value = where(counts, exponential(most(exponent, all(LEAST_EXPONENT))), zero());
  return bits(counts) != 0;
}

// Whether a grid's shape is 0 in a whole tile.
inline bool is_far(const float* transform, const Tile& tile) {
  for (int a = 0; a < 3; ++a) {
    const float* row = transform + 4 * a;
    float centre = row[3], half = 0.0f;
    for (int b = 0; b < 3; ++b) {
      centre += row[b] * 0.5f * (tile.low[b] + tile.high[b]);
      half += __builtin_fabsf(row[b]) * 0.5f * (tile.high[b] - tile.low[b]);
    }
    if (__builtin_fabsf(centre) > half + DENSITY_REACH) return true;
  }
  return false;
}

void density_tile(const float* transforms, const float* coefficients, int m, const Tile& tile, float* density) {
  for (int i = 0; i < TILE; i += W) store(density + i, zero());
  for (int g = 0; g < m; ++g) {
    const float* transform = transforms + 12 * g;
    if (is_far(transform, tile)) continue;
    for (int i = 0; i < TILE; i += W) {
      V value, power[3];
      if (shape(transform, tile, i, value, power)) store(density + i, fma(all(coefficients[g]), value, load(density + i)));
    }
  }
}

// sums[0..11] += sum of slope * d density / d transform at a fixed coefficient; sums[12] += sum of slope * shape.
void density_backward_tile(const float* transform, float coefficient, const Tile& tile, const float* slopes, double* sums) {
  if (is_far(transform, tile)) return;
  V total[13];
  for (V& t : total) t = zero();
  for (int i = 0; i < TILE; i += W) {
    V value, power[3];
    if (!shape(transform, tile, i, value, power)) continue;
    const V weighted = load(slopes + i) * value;
    total[12] = total[12] + weighted;
    for (int a = 0; a < 3; ++a) {
      const V slope = all(-10.0f * coefficient) * weighted * power[a];
      for (int b = 0; b < 3; ++b) total[4 * a + b] = fma(slope, load(tile.at[b] + i), total[4 * a + b]);
      total[4 * a + 3] = total[4 * a + 3] + slope;
    }
  }
  for (int k = 0; k < 13; ++k) sums[k] += sum(total[k]);
}

}  // namespace
