// Reading the feature grids at the points of a tile, and the way back. Readable twin: `apmgsrn_core/network/encoding.py`.
//
// Of a tile only the points inside a placed grid (with the ramp of zero padding around it) are read. A point reads TAPS * TAPS
// rows of memory, each holding its neighbours along x.
#pragma once
#include "locate.h"
#include "rows.h"
#include "taps.h"

namespace {

using namespace apm;

// Node offsets (in floats) of the first tap of each lane, and of the rows from there.
template <int TAPS, int F>
struct Address {
  alignas(64) int32_t node[W];
  size_t row[TAPS * TAPS];

  Address(const Slot& slot) {
    const size_t along_y = slot.nodes[1] > 1 ? slot.nodes[0] : 0;
    const size_t along_z = slot.nodes[2] > 1 ? static_cast<size_t>(slot.nodes[0]) * slot.nodes[1] : 0;
    for (int z = 0; z < TAPS; ++z)
      for (int y = 0; y < TAPS; ++y) row[z * TAPS + y] = (z * along_z + y * along_y) * F;
  }
  void set(const Slot& slot, const Taps<TAPS>& x, const Taps<TAPS>& y, const Taps<TAPS>& z) {
    store(node, multiply_add(multiply_add(z.first, slot.nodes[1], y.first), slot.nodes[0], x.first));
  }
};

template <int TAPS, int F>
constexpr int row_floats = (TAPS == 2 ? 2 : 4) * F;

// Features at the located points -> `out[f]`, side by side.
template <int TAPS, int F>
void read_located(const Slot& slot, const float* grid, const Located& at, float* const (&out)[MOST_WIDTH]) {
  constexpr int N = row_floats<TAPS, F>;
  Address<TAPS, F> address(slot);
  alignas(64) float weight[TAPS * TAPS][W];
  alignas(64) float sums[W * N] = {};
  for (int i = 0; i < at.count; i += W) {
    const auto x = find_taps<TAPS, false>(slot, 0, load(at.at[0] + i));
    const auto y = find_taps<TAPS, false>(slot, 1, load(at.at[1] + i));
    const auto z = find_taps<TAPS, false>(slot, 2, load(at.at[2] + i));
    address.set(slot, x, y, z);
    for (int b = 0; b < TAPS; ++b)
      for (int a = 0; a < TAPS; ++a) store(weight[b * TAPS + a], z.weight[b] * y.weight[a]);
    const int lanes_left = at.count - i < W ? at.count - i : W;
    for (int p = 0; p < lanes_left; ++p) {
      const float* base = grid + static_cast<size_t>(address.node[p]) * F;
      typename Row<N>::type row = weight[0][p] * load_row<N>(base);
      for (int k = 1; k < TAPS * TAPS; ++k) row += weight[k][p] * load_row<N>(base + address.row[k]);
      store_row<N>(sums + p * N, row);
    }
    V column[N];
    for (int k = 0; k < N; ++k) column[k] = load(sums + k * W);
    deinterleave<N>(column);
    for (int f = 0; f < F; ++f) {
      V value = x.weight[0] * column[f];
      for (int k = 1; k < TAPS; ++k) value = fma(x.weight[k], column[k * F + f], value);
      store(out[f] + i, value);
    }
  }
}

// Slopes of the located features -> sums in the features (packed), and slopes of the local coordinates.
template <int TAPS, int F, bool LOCAL>
void pull_located(const Slot& slot, const float* grid, const Located& at, const float* const (&slopes)[MOST_WIDTH],
                  float* sums, float* const (&local)[3]) {
  constexpr int N = row_floats<TAPS, F>;
  Address<TAPS, F> address(slot);
  alignas(64) float weight[3][TAPS * TAPS][W];  // of the features; of y; of z
  alignas(64) float row_slope[W * N] = {}, read[3][LOCAL ? W * N : 1] = {};
  for (int i = 0; i < at.count; i += W) {
    const auto x = find_taps<TAPS, LOCAL>(slot, 0, load(at.at[0] + i));
    const auto y = find_taps<TAPS, LOCAL>(slot, 1, load(at.at[1] + i));
    const auto z = find_taps<TAPS, LOCAL>(slot, 2, load(at.at[2] + i));
    address.set(slot, x, y, z);
    for (int b = 0; b < TAPS; ++b)
      for (int a = 0; a < TAPS; ++a) {
        store(weight[0][b * TAPS + a], z.weight[b] * y.weight[a]);
        if (LOCAL) store(weight[1][b * TAPS + a], z.weight[b] * y.change[a]);
        if (LOCAL) store(weight[2][b * TAPS + a], z.change[b] * y.weight[a]);
      }
    const int lanes_left = at.count - i < W ? at.count - i : W;
    if (LOCAL) {
      for (int p = 0; p < lanes_left; ++p) {
        const float* base = grid + static_cast<size_t>(address.node[p]) * F;
        typename Row<N>::type plain = {}, in_y = {}, in_z = {};
        for (int k = 0; k < TAPS * TAPS; ++k) {
          const auto row = load_row<N>(base + address.row[k]);
          plain += weight[0][k][p] * row;
          in_y += weight[1][k][p] * row;
          in_z += weight[2][k][p] * row;
        }
        store_row<N>(read[0] + p * N, plain);
        store_row<N>(read[1] + p * N, in_y);
        store_row<N>(read[2] + p * N, in_z);
      }
      V total[3] = {zero(), zero(), zero()};
      for (int a = 0; a < 3; ++a) {
        V column[N];
        for (int k = 0; k < N; ++k) column[k] = load(read[a] + k * W);
        deinterleave<N>(column);
        for (int f = 0; f < F; ++f) {
          V value = zero();
          for (int k = 0; k < TAPS; ++k) value = fma(a ? x.weight[k] : x.change[k], column[k * F + f], value);
          total[a] = fma(load(slopes[f] + i), value, total[a]);
        }
        store(local[a] + i, total[a]);
      }
    }
    if (!sums) continue;
    V column[N];
    for (int k = 0; k < TAPS; ++k)
      for (int f = 0; f < F; ++f) column[k * F + f] = x.weight[k] * load(slopes[f] + i);
    for (int k = TAPS * F; k < N; ++k) column[k] = zero();
    interleave<N>(column);
    for (int k = 0; k < N; ++k) store(row_slope + k * W, column[k]);
    for (int p = 0; p < lanes_left; ++p) {
      float* base = sums + static_cast<size_t>(address.node[p]) * F;
      const auto slope = load_row<N>(row_slope + p * N);
      for (int k = 0; k < TAPS * TAPS; ++k)
        store_row<N>(base + address.row[k], load_row<N>(base + address.row[k]) + weight[0][k][p] * slope);
    }
  }
}

using Read = void (*)(const Slot&, const float*, const Located&, float* const (&)[MOST_WIDTH]);
using Pull = void (*)(const Slot&, const float*, const Located&, const float* const (&)[MOST_WIDTH], float*,
                      float* const (&)[3]);

inline int log2_of(int width) { return width == 8 ? 3 : width / 2; }

inline Read reader_of(const Slot& slot) {
  static const Read linear[] = {read_located<2, 1>, read_located<2, 2>, read_located<2, 4>, read_located<2, 8>};
  static const Read quadratic[] = {read_located<3, 1>, read_located<3, 2>, read_located<3, 4>};
  return (slot.quadratic ? quadratic : linear)[log2_of(slot.width)];
}

template <bool LOCAL>
inline Pull puller_of(const Slot& slot) {
  static const Pull linear[] = {pull_located<2, 1, LOCAL>, pull_located<2, 2, LOCAL>, pull_located<2, 4, LOCAL>,
                                pull_located<2, 8, LOCAL>};
  static const Pull quadratic[] = {pull_located<3, 1, LOCAL>, pull_located<3, 2, LOCAL>, pull_located<3, 4, LOCAL>};
  return (slot.quadratic ? quadratic : linear)[log2_of(slot.width)];
}

void encode_tile(const Plan& plan, const Tile& tile, Encoded& out) {
  Located at;
  alignas(64) float kept[MOST_WIDTH][TILE + SPARE];
  const int padded = (tile.count + W - 1) / W * W;
  out.count = 0;
  for (int s = 0; s < plan.slot_count; ++s) out.row[s] = -1;
  const auto encode_slot = [&](int s) {
    const Slot& slot = plan.slots[s];
    if (!locate(slot, transform_of(plan, slot), tile, at)) return;
    float* row = out.rows + static_cast<size_t>(out.count) * TILE;
    float* target[MOST_WIDTH];
    for (int f = 0; f < MOST_WIDTH; ++f)
      target[f] = at.whole && f < slot.features ? row + static_cast<size_t>(f) * TILE : kept[f];
    reader_of(slot)(slot, plan.packed + slot.packed, at, target);
    for (int f = 0; f < slot.features; ++f) {
      out.columns[out.count + f] = slot.column + f;
      if (!at.whole) expand_row(at, kept[f], row + static_cast<size_t>(f) * TILE, padded);
    }
    out.row[s] = out.count;
    out.count += slot.features;
  };
  for (int first = 0; first < plan.slot_count; first += W)
    for (uint32_t near = slots_near(plan, tile, first); near; near &= near - 1) encode_slot(first + __builtin_ctz(near));
}

void slot_backward(const Plan& plan, const Slot& slot, const Tile& tile, const float* slopes, const SlotGradients& sums) {
  Located at;
  alignas(64) float kept[MOST_WIDTH][TILE + SPARE], local[3][TILE + SPARE], row[TILE + SPARE];
  alignas(64) static const float nothing[TILE + SPARE] = {};
  const int padded = (tile.count + W - 1) / W * W;
  const float* transform = transform_of(plan, slot);
  if (!locate(slot, transform, tile, at)) return;
  const float* source[MOST_WIDTH];
  for (int f = 0; f < MOST_WIDTH; ++f) {
    const float* all_points = slopes + static_cast<size_t>(f) * TILE;
    source[f] = f >= slot.features ? nothing : at.whole ? all_points : kept[f];
    if (f < slot.features && !at.whole) compress_row(at, all_points, kept[f], padded);
  }
  float* const to_local_slopes[3] = {local[0], local[1], local[2]};
  const bool wants_local = sums.points || (sums.transforms && transform);
  const float* grid = plan.packed + slot.packed;
  if (wants_local)
    puller_of<true>(slot)(slot, grid, at, source, sums.features, to_local_slopes);
  else
    puller_of<false>(slot)(slot, grid, at, source, sums.features, to_local_slopes);
  if (!wants_local) return;
  for (int a = 0; a < 3; ++a) {
    const float* placed = local[a];
    if (!at.whole) expand_row(at, local[a], row, padded), placed = row;
    if (sums.transforms && transform) {
      V total[4] = {zero(), zero(), zero(), zero()};
      for (int i = 0; i < padded; i += W) {
        const V slope = load(placed + i);
        for (int b = 0; b < 3; ++b) total[b] = fma(slope, load(tile.at[b] + i), total[b]);
        total[3] = total[3] + slope;
      }
      float four[4];
      sum4(total[0], total[1], total[2], total[3], four);
      for (int b = 0; b < 4; ++b) sums.transforms[4 * a + b] += four[b];
    }
    if (!sums.points) continue;
    for (int b = 0; b < 3; ++b) {
      if (!transform && a != b) continue;
      const V factor = all(transform ? transform[4 * a + b] : 1.0f);
      float* to = sums.points + static_cast<size_t>(b) * TILE;
      for (int i = 0; i < padded; i += W) store(to + i, fma(factor, load(placed + i), load(to + i)));
    }
  }
}

}  // namespace
