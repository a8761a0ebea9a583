// Points in tiles: neighbours in space side by side, so that a tile meets few of the placed grids.
#pragma once
#include <vector>

#include "plan.h"

namespace apm {

// order[i]: the point in place i when points are sorted along a Z-curve over [-1, 1]^3.
std::vector<int32_t> sorted_order(const float* points, int64_t n);

// The points order[first], order[first + 1], ... of a tile.
void fill_tile(Tile& tile, const float* points, const int32_t* order, int64_t first, int64_t n);

// Boxes of at most TILE points that cover a lattice.
struct LatticeTiles {
  int64_t size[3], tiles[3];
  int side[3];  // points of a box along x, y, z

  LatticeTiles(int64_t nx, int64_t ny, int64_t nz);
  int64_t count() const { return tiles[0] * tiles[1] * tiles[2]; }
  // Fill a tile; `start` is its first point, `stop` ends it, (x, y, z).
  void fill(int64_t index, const float* const (&axes)[3], Tile& tile, int64_t (&start)[3], int64_t (&stop)[3]) const;
};

}  // namespace apm
