// Reading the feature grids at the points of a tile, and the way back. Readable twin: `apmgsrn_core/encoding.py`.
//
// Of a tile only the points inside a placed grid (with the ramp of zero padding around it) are read: their coordinates
// are moved side by side first ("compressed"), and the results back ("expanded"). A point then reads TAPS * TAPS rows of
// memory, each holding its neighbours along x. Padding needs no branch: the first tap is clamped to a node that exists,
// and the weights, functions of the distance to their nodes, vanish by themselves.
#pragma once

namespace {

using namespace apm;

// Local coordinates of the points of a tile that a grid reaches.
struct Located {
  alignas(64) float kept[3][TILE + SPARE];
  const float* at[3];        // `kept`, or the tile's own points
  uint32_t inside[TILE / W];  // the lanes of each vector
  int count;
  bool whole;  // all points, in place
};

// Which of W slots from `first` on may differ from zero in a tile, as bits.
inline uint32_t slots_near(const Plan& plan, const Tile& tile, int first) {
  const size_t stride = (plan.slot_count + SPARE - 1) / SPARE * SPARE;
  const float *low = plan.boxes + first, *high = low + 3 * stride;
  Mask near = less(load(low), all(tile.high[0]));
  for (int a = 0; a < 3; ++a)
    near = both(near, both(less(load(low + a * stride), all(tile.high[a])), less(all(tile.low[a]), load(high + a * stride))));
  const int left = plan.slot_count - first;
  return bits(near) & (left < W ? (1u << left) - 1 : ~0u);
}

inline void to_local(const float* t, const Tile& tile, int i, V (&local)[3]) {
  const V x = load(tile.at[0] + i);
  if (tile.row_length >= W) {  // y and z are the same for all lanes: one step along x
    const float y = tile.at[1][i], z = tile.at[2][i];
    for (int a = 0; a < 3; ++a) local[a] = fma(all(t[4 * a]), x, all(t[4 * a + 1] * y + t[4 * a + 2] * z + t[4 * a + 3]));
    return;
  }
  const V y = load(tile.at[1] + i), z = load(tile.at[2] + i);
  for (int a = 0; a < 3; ++a)
    local[a] = fma(all(t[4 * a]), x, fma(all(t[4 * a + 1]), y, fma(all(t[4 * a + 2]), z, all(t[4 * a + 3]))));
}

// Fill `out`; false when the grid is zero at all points of the tile.
inline bool locate(const Slot& slot, const float* transform, const Tile& tile, Located& out) {
  const int padded = (tile.count + W - 1) / W * W;
  if (!transform) {
    for (int a = 0; a < 3; ++a) out.at[a] = tile.at[a];
    out.count = padded;
    out.whole = true;
    return true;
  }
  int n = 0;
  for (int i = 0; i < padded; i += W) {
    V local[3];
    to_local(transform, tile, i, local);
    const Mask inside = both(less(magnitude(local[0]), all(slot.reach[0])),
                             both(less(magnitude(local[1]), all(slot.reach[1])),
                                  less(magnitude(local[2]), all(slot.reach[2]))));
    out.inside[i / W] = bits(inside);
    if (!bits(inside)) continue;
    compress(out.kept[0] + n, inside, local[0]);
    compress(out.kept[1] + n, inside, local[1]);
    n += compress(out.kept[2] + n, inside, local[2]);
  }
  for (int a = 0; a < 3; ++a) {
    store(out.kept[a] + n, zero());  // the last vector's lanes without a point
    out.at[a] = out.kept[a];
  }
  out.count = n;
  out.whole = false;
  return n > 0;
}

// The taps along one axis: index of the first, weight of each, and what the weights change by a local coordinate.
template <int TAPS>
struct Taps {
  V weight[TAPS], change[TAPS];
  I first;
};

template <int TAPS, bool CHANGE>
inline Taps<TAPS> find_taps(const Slot& slot, int axis, V local) {
  Taps<TAPS> taps;
  const V one = all(1.0f), none = zero();
  if (slot.resolution[axis] == 1) {
    taps.first = whole(none);
    for (int k = 0; k < TAPS; ++k) {
      taps.weight[k] = k ? none : one;
      if (CHANGE) taps.change[k] = none;
    }
    return taps;
  }
  const bool lattice = slot.transform < 0;
  const V held = lattice ? least(most(local, all(-1.0f)), one) : local;
  const V node = fma(held, all(slot.scale[axis]), all(slot.shift[axis]));
  const float last = static_cast<float>(slot.nodes[axis] - TAPS);
  if constexpr (TAPS == 2) {
    const V first = least(most(floor_of(node), none), all(last));
    const V t = node - first;
    taps.first = whole(first);
    taps.weight[0] = most(one - magnitude(t), none);
    taps.weight[1] = most(one - magnitude(t - one), none);
    if (CHANGE) {  // as `grid_sample` has it: the slope to the right of a node, none where a lattice is held
      const Mask left = less(t, none), right = less(t, one);
      const V scale = all(slot.scale[axis]);
      V low = where(left, scale, where(right, none - scale, none)), high = where(left, none, where(right, scale, none - scale));
      if (lattice) {
        const Mask free = both(less(none, node), less(node, all(last + 1.0f)));
        low = where(free, low, none);
        high = where(free, high, none);
      }
      taps.change[0] = low;
      taps.change[1] = high;
    }
  } else {
    const V first = least(most(nearest(node) - one, none), all(last));
    taps.first = whole(first);
    const Mask moved = not_equal(held, local);
    for (int k = 0; k < 3; ++k) {  // w(t) = max(0, 3/2 - |t|)^2 / 2 - 3/2 max(0, 1/2 - |t|)^2, the quadratic B-spline
      const V t = node - (first + all(static_cast<float>(k)));
      const V outer = most(all(1.5f) - magnitude(t), none), inner = most(all(0.5f) - magnitude(t), none);
      taps.weight[k] = all(0.5f) * outer * outer - all(1.5f) * inner * inner;
      if (CHANGE) {
        const V slope = (all(3.0f) * inner - outer) * all(slot.scale[axis]);
        taps.change[k] = where(moved, none, where(less(t, none), none - slope, slope));
      }
    }
  }
  return taps;
}

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

inline const float* transform_of(const Plan& plan, const Slot& slot) {
  return slot.transform < 0 ? nullptr : plan.transforms + 12 * static_cast<size_t>(slot.transform);
}

inline void expand_row(const Located& at, const float* kept, float* out, int padded) {
  for (int i = 0, n = 0; i < padded; i += W) {
    const uint32_t inside = at.inside[i / W];
    store(out + i, inside ? expand(kept + n, mask_of(inside)) : zero());
    n += __builtin_popcount(inside);
  }
}

inline void compress_row(const Located& at, const float* row, float* out, int padded) {
  int n = 0;
  for (int i = 0; i < padded; i += W)
    if (const uint32_t inside = at.inside[i / W]) n += compress(out + n, mask_of(inside), load(row + i));
  store(out + n, zero());
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
