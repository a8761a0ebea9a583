// Which points of a tile a grid reaches, moved side by side ("compressed") and back ("expanded").
#pragma once

namespace {

using namespace apm;

inline const float* transform_of(const Plan& plan, const Slot& slot) {
  return slot.transform < 0 ? nullptr : plan.transforms + 12 * static_cast<size_t>(slot.transform);
}

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

}  // namespace
