#include "tiles.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace apm {
namespace {

// Bits of the Z-curve's cell along one axis, two places apart.
uint32_t spread(uint32_t b) {
  uint32_t r = 0;
  for (int i = 0; i < 5; ++i) r |= (b >> i & 1) << 3 * i;
  return r;
}

void find_box(Tile& tile) {
  for (int a = 0; a < 3; ++a) {
    float low = std::numeric_limits<float>::infinity(), high = -low;  // what is not a number stays outside
    for (int i = 0; i < tile.count; ++i) {
      low = std::min(low, tile.at[a][i]);
      high = std::max(high, tile.at[a][i]);
    }
    tile.low[a] = low;
    tile.high[a] = high;
  }
}

}  // namespace

std::vector<int32_t> sorted_order(const float* points, int64_t n) {
  std::vector<int32_t> order(n);
  if (n <= TILE) {
    for (int64_t i = 0; i < n; ++i) order[i] = static_cast<int32_t>(i);
    return order;
  }
  const int levels = n < 16 * TILE ? 3 : n < 256 * TILE ? 4 : 5;  // a few cells in a tile
  uint32_t along[3][32];
  for (int a = 0; a < 3; ++a)
    for (uint32_t b = 0; b < 32; ++b) along[a][b] = spread(b) << a;
  const float cells = static_cast<float>(1 << levels), last = cells - 1.0f;
  std::vector<uint16_t> key(n);
  std::vector<int32_t> start((1 << 3 * levels) + 1, 0);
  for (int64_t i = 0; i < n; ++i) {
    uint32_t k = 0;
    for (int a = 0; a < 3; ++a) {
      const float cell = (points[3 * i + a] + 1.0f) * 0.5f * cells;
      k |= along[a][static_cast<int>(cell > 0.0f ? std::min(cell, last) : 0.0f)];
    }
    key[i] = static_cast<uint16_t>(k);
    ++start[k + 1];
  }
  for (size_t k = 1; k < start.size(); ++k) start[k] += start[k - 1];
  for (int64_t i = 0; i < n; ++i) order[start[key[i]]++] = static_cast<int32_t>(i);
  return order;
}

void fill_tile(Tile& tile, const float* points, const int32_t* order, int64_t first, int64_t n) {
  tile.count = static_cast<int>(std::min<int64_t>(TILE, n - first));
  tile.row_length = 0;
  for (int i = 0; i < TILE; ++i) {
    const float* from = points + 3 * static_cast<int64_t>(order[first + std::min(i, tile.count - 1)]);
    for (int a = 0; a < 3; ++a) tile.at[a][i] = from[a];
  }
  find_box(tile);
}

LatticeTiles::LatticeTiles(int64_t nx, int64_t ny, int64_t nz) : size{nx, ny, nz} {
  // 16 x 4 x 4, or what a thin lattice leaves to the other axes.
  side[2] = nz > 2 ? 4 : static_cast<int>(std::max<int64_t>(nz, 1));
  const int plane = 16 / side[2];
  side[1] = static_cast<int>(std::min<int64_t>(plane, ny < 2 ? 1 : 1 << static_cast<int>(std::ceil(std::log2(static_cast<double>(ny))))));
  side[0] = TILE / (side[1] * side[2]);
  for (int a = 0; a < 3; ++a) tiles[a] = (size[a] + side[a] - 1) / side[a];
}

void LatticeTiles::fill(int64_t index, const float* const (&axes)[3], Tile& tile, int64_t (&start)[3], int64_t (&stop)[3]) const {
  const int64_t at[3] = {index % tiles[0], index / tiles[0] % tiles[1], index / (tiles[0] * tiles[1])};
  for (int a = 0; a < 3; ++a) {
    start[a] = at[a] * side[a];
    stop[a] = std::min(start[a] + side[a], size[a]);
  }
  tile.count = TILE;
  tile.row_length = side[0];
  float* to[3] = {tile.at[0], tile.at[1], tile.at[2]};
  for (int k = 0; k < side[2]; ++k)
    for (int j = 0; j < side[1]; ++j) {
      const float y = axes[1][std::min(start[1] + j, stop[1] - 1)], z = axes[2][std::min(start[2] + k, stop[2] - 1)];
      for (int i = 0; i < side[0]; ++i) {
        *to[0]++ = axes[0][std::min(start[0] + i, stop[0] - 1)];
        *to[1]++ = y;
        *to[2]++ = z;
      }
    }
  find_box(tile);
}

}  // namespace apm
