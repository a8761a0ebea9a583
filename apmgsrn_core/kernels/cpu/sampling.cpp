// Values and derivatives, without sums over points.
#include <algorithm>
#include <vector>

#include "passes.h"
#include "thread_pool.h"
#include "tiles.h"

namespace apm {
namespace {

constexpr int64_t PART = 1 << 15;  // points that are sorted together

void tile_values(const Prepared& model, Workspace& desk, bool keep_hidden = false) {
  desk.scratch.keep_hidden = keep_hidden;
  model.kernels.encode(model.plan, desk.tile, desk.scratch.encoded);
  model.kernels.decode(model.plan, desk.scratch, desk.values);
}

}  // namespace

void find_values(Prepared& model, const float* points, int64_t n, float* values) {
  const int outputs = model.plan.outputs;
  model.open_spaces();
  for (int64_t base = 0; base < n;) {
    const int64_t count = std::min(n - base, PART * model.plan.threads);
    const float* from = points + 3 * base;
    const std::vector<int32_t> order = sorted_order(from, count);
    parallel(static_cast<int>((count + TILE - 1) / TILE), model.plan.threads, [&](int t, int thread) {
      Workspace& desk = model.space(thread);
      const int64_t first = static_cast<int64_t>(t) * TILE;
      fill_tile(desk.tile, from, order.data(), first, count);
      tile_values(model, desk);
      for (int i = 0; i < desk.tile.count; ++i)
        for (int o = 0; o < outputs; ++o)
          values[(base + order[first + i]) * outputs + o] = desk.values[static_cast<size_t>(o) * TILE + i];
    });
    base += count;
  }
}

void find_lattice(Prepared& model, const float* const (&axes)[3], const int64_t (&size)[3], float* values) {
  if (size[0] <= 0 || size[1] <= 0 || size[2] <= 0) return;
  const LatticeTiles tiles(size[0], size[1], size[2]);
  const int outputs = model.plan.outputs;
  model.open_spaces();
  // Layer by layer: a count of tiles fits an int, and threads stay near each other in memory.
  const int per_layer = static_cast<int>(tiles.tiles[0] * tiles.tiles[1]);
  for (int64_t layer = 0; layer < tiles.tiles[2]; ++layer)
    parallel(per_layer, model.plan.threads, [&](int t, int thread) {
      Workspace& desk = model.space(thread);
      int64_t start[3], stop[3];
      tiles.fill(layer * per_layer + t, axes, desk.tile, start, stop);
      tile_values(model, desk);
      for (int64_t z = start[2]; z < stop[2]; ++z)
        for (int64_t y = start[1]; y < stop[1]; ++y) {
          const float* from = desk.values + ((z - start[2]) * tiles.side[1] + (y - start[1])) * tiles.side[0];
          float* to = values + ((z * size[1] + y) * size[0] + start[0]) * outputs;
          for (int64_t x = 0; x < stop[0] - start[0]; ++x)
            for (int o = 0; o < outputs; ++o) to[x * outputs + o] = from[static_cast<size_t>(o) * TILE + x];
        }
    });
}

void find_derivatives(Prepared& model, const float* points, int64_t n, float* values, float* slopes) {
  const Plan& plan = model.plan;
  const int64_t tiles = (n + TILE - 1) / TILE;
  const std::vector<int32_t> order = sorted_order(points, n);
  model.open_spaces();
  parallel(static_cast<int>(tiles), plan.threads, [&](int t, int thread) {
    Workspace& desk = model.space(thread);
    Scratch& scratch = desk.scratch;
    const int64_t first = static_cast<int64_t>(t) * TILE;
    fill_tile(desk.tile, points, order.data(), first, n);
    tile_values(model, desk, true);
    scratch.encoded_slopes = desk.slopes;
    float sums[3 * TILE];
    for (int o = 0; o < plan.outputs; ++o) {
      std::fill_n(desk.value_slopes, static_cast<size_t>(plan.outputs) * TILE, 0.0f);
      std::fill_n(desk.value_slopes + static_cast<size_t>(o) * TILE, desk.tile.count, 1.0f);
      std::fill_n(sums, 3 * TILE, 0.0f);
      model.kernels.decode_backward(plan, scratch, desk.value_slopes, nullptr);
      for (int s = 0; s < plan.slot_count; ++s)
        if (const int row = scratch.encoded.row[s]; row >= 0)
          model.kernels.slot_backward(plan, plan.slots[s], desk.tile, scratch.encoded_slopes + static_cast<size_t>(row) * TILE,
                                      {nullptr, nullptr, sums});
      for (int i = 0; i < desk.tile.count; ++i) {
        const int64_t at = static_cast<int64_t>(order[first + i]) * plan.outputs + o;
        values[at] = desk.values[static_cast<size_t>(o) * TILE + i];
        for (int a = 0; a < 3; ++a) slopes[3 * at + a] = sums[a * TILE + i];
      }
    }
  });
}

}  // namespace apm
