// Marching rays: rounds of samples of all rays that are left, evaluated together. Readable twin: `apmgsrn_core/rendering/ray_march.py`
// with the modes of `ray_modes.py`, whose formulas and sources are there.
#include <algorithm>
#include <cmath>
#include <vector>

#include "passes.h"
#include "ray_cells.h"
#include "ray_samples.h"
#include "thread_pool.h"

namespace apm {
namespace {

constexpr int64_t CHUNK = 512;                       // rays that a thread takes at a time
constexpr int64_t ROUND = 1 << 17;                   // samples in a round, about
constexpr int64_t LEAST_BLOCK = 4, MOST_BLOCK = 32;  // samples of a ray in a round
constexpr float FAINT = 1e-4f;                       // of a picture: what is fainter is not lit
constexpr float INNER = 1.0f - 0x1p-22f;             // largest coordinate of a slope

class March {
 public:
  March(const RayField& field, const ApmRays& rays, const ApmCells& cells, const ApmLook& look, const ApmSeen& seen)
      : field_(field), rays_(rays), cells_(cells), look_(look), seen_(seen), next_(rays.count), left_(rays.count) {
    for (int64_t r = 0; r < rays.count; ++r) left_[r] = static_cast<int32_t>(r);
  }

  int64_t run() {
    int64_t evaluated = 0;
    while (!left_.empty()) {
      open_round();
      in_chunks([&](int64_t chunk) { gather(chunk); });
      const int64_t count = close_up();
      if (count) field_.values(points_.data(), count, values_.data());
      in_chunks([&](int64_t chunk) { add(chunk); });
      evaluated += count + add_lit();
      drop_done();
    }
    return evaluated;
  }

 private:
  struct Lit {
    int64_t sample, row;
    float share, colour[3];
  };
  struct Chunk {
    int64_t count = 0, first = 0;  // samples, number of the first among those of the round
    std::vector<Lit> lit;
    int64_t first_lit = 0;
  };

  template <class Work>
  void in_chunks(const Work& work) {
    parallel(static_cast<int>(chunks_.size()), field_.threads, [&](int chunk, int) { work(chunk); });
  }

  int64_t rays_of(int64_t chunk) const { return std::min<int64_t>(CHUNK, left_.size() - chunk * CHUNK); }

  void open_round() {
    const int64_t rays = static_cast<int64_t>(left_.size());
    block_ = std::clamp(ROUND / rays, LEAST_BLOCK, MOST_BLOCK);
    const size_t most = static_cast<size_t>(rays) * block_;
    points_.reserve(3 * most);
    steps_.reserve(most);
    lengths_.reserve(most);
    values_.reserve(most * field_.outputs);
    counts_.reserve(rays);
    chunks_.resize((rays + CHUNK - 1) / CHUNK);
    for (Chunk& chunk : chunks_) {
      chunk.lit.clear();
      if (look_.directions) chunk.lit.reserve(CHUNK * block_);  // in `parallel` nothing may throw
    }
  }

  // The slots of a chunk's samples begin here; its points too, until they are closed up.
  int64_t slot_of(int64_t chunk) const { return chunk * CHUNK * block_; }

  void gather(int64_t chunk) {
    int64_t slot = slot_of(chunk);
    for (int64_t i = chunk * CHUNK, end = i + rays_of(chunk); i < end; ++i) {
      const int64_t before = slot;
      gather_ray(left_[i], slot);
      counts_.data()[i] = static_cast<int32_t>(slot - before);
    }
    chunks_[chunk].count = slot - slot_of(chunk);
  }

  void gather_ray(int64_t ray, int64_t& slot) {
    const float *start = rays_.start + 3 * ray, *along = rays_.along + 3 * ray;
    const int64_t first = rays_.first[ray], end = rays_.steps[ray], stop = slot + block_;
    const bool higher = look_.mode == APM_MAXIMUM;
    const float most = higher ? seen_.sums[rays_.rows[ray]] : 0.0f;
    int64_t step = next_[ray];
    while (step < end && slot < stop) {
      float point[3];
      int place[3];
      for (int a = 0; a < 3; ++a) point[a] = start[a] + static_cast<float>(step) * along[a];
      const int64_t cell = cells_.number_of(point, place);
      if (const int far = cells_.far(cell)) {
        step += cells_.steps_out(point, along, place, far);
        continue;
      }
      const int length = cells_.length(cell);
      if (!((first + step) & (length - 1)) && !(higher && cells_.highest(cell) <= most)) {
        for (int a = 0; a < 3; ++a)
          points_.data()[3 * slot + a] = std::clamp(look_.offset[a] + point[a] * look_.scale[a], -1.0f, 1.0f);
        steps_.data()[slot] = static_cast<float>(first + step) + 0.5f;
        lengths_.data()[slot] = static_cast<uint8_t>(length);
        ++slot;
      }
      ++step;
    }
    next_[ray] = step;
  }

  // Points of all chunks one after the other; returns how many.
  int64_t close_up() {
    int64_t count = 0;
    for (size_t c = 0; c < chunks_.size(); ++c) {
      chunks_[c].first = count;
      const float* from = points_.data() + 3 * slot_of(c);
      std::copy(from, from + 3 * chunks_[c].count, points_.data() + 3 * count);
      count += chunks_[c].count;
    }
    return count;
  }

  void add(int64_t chunk) {
    int64_t slot = slot_of(chunk);
    const float* value = values_.data() + chunks_[chunk].first * field_.outputs + look_.column;
    for (int64_t i = chunk * CHUNK, end = i + rays_of(chunk); i < end; ++i) {
      const int64_t row = rays_.rows[left_[i]], count = counts_.data()[i];
      if (look_.mode == APM_COMPOSITE)
        composite(chunks_[chunk], row, value, slot, count);
      else
        note(row, value, slot, count);
      slot += count;
      value += count * field_.outputs;
    }
  }

  void composite(Chunk& chunk, int64_t row, const float* value, int64_t slot, int64_t count) {
    const float least = 1.0f - look_.limit;
    float *colour = seen_.colour + 3 * row, opacity = seen_.opacity[row], passed = 1.0f - opacity;
    for (int64_t i = 0; i < count && passed > least; ++i, ++slot, value += field_.outputs) {
      float rgba[4];
      look_up(look_, *value, lengths_.data()[slot], rgba);
      const float share = passed * rgba[3];
      passed -= share;
      opacity += share;
      seen_.sums[row] += share * steps_.data()[slot];
      if (look_.directions && share > FAINT)
        chunk.lit.push_back({sample_of(chunk, slot), row, share, {rgba[0], rgba[1], rgba[2]}});
      else
        for (int c = 0; c < 3; ++c) colour[c] += share * rgba[c];
    }
    seen_.opacity[row] = opacity;
  }

  // Number of a slot's sample among those of the round.
  int64_t sample_of(const Chunk& chunk, int64_t slot) const {
    return chunk.first + slot - slot_of(&chunk - chunks_.data());
  }

  // The maximum, or sums for the average.
  void note(int64_t row, const float* value, int64_t slot, int64_t count) {
    for (int64_t i = 0; i < count; ++i, ++slot, value += field_.outputs) {
      const float depth = steps_.data()[slot];
      if (!(*value == *value)) continue;
      if (look_.mode == APM_AVERAGE) {
        const float parts[3] = {1.0f, *value, depth};
        for (int c = 0; c < 3; ++c) seen_.sums[3 * row + c] += parts[c];
      } else if (*value > seen_.sums[row]) {
        seen_.sums[row] = *value;
        seen_.depth[row] = depth;
      }
    }
  }

  // Add the samples that wait for their slopes; returns how many.
  int64_t add_lit() {
    int64_t count = 0;
    for (Chunk& chunk : chunks_) {
      chunk.first_lit = count;
      count += static_cast<int64_t>(chunk.lit.size());
    }
    if (!count) return 0;
    lit_points_.reserve(3 * count);
    lit_slopes_.reserve(3 * count * field_.outputs);
    values_.reserve(count * field_.outputs);
    for (const Chunk& chunk : chunks_)
      for (size_t i = 0; i < chunk.lit.size(); ++i)
        for (int a = 0; a < 3; ++a)
          lit_points_.data()[3 * (chunk.first_lit + i) + a] =
              std::clamp(points_.data()[3 * chunk.lit[i].sample + a], -INNER, INNER);
    field_.slopes(lit_points_.data(), count, values_.data(), lit_slopes_.data());
    in_chunks([&](int64_t chunk) { add_lit(chunks_[chunk]); });
    return count;
  }

  void add_lit(const Chunk& chunk) {
    const float* slope = lit_slopes_.data() + 3 * (chunk.first_lit * field_.outputs + look_.column);
    for (const Lit& lit : chunk.lit) {
      float colour[3] = {lit.colour[0], lit.colour[1], lit.colour[2]};
      light(look_, look_.directions + 3 * lit.row, slope, colour);
      for (int c = 0; c < 3; ++c) seen_.colour[3 * lit.row + c] += lit.share * colour[c];
      slope += 3 * field_.outputs;
    }
  }

  void drop_done() {
    const bool composite = look_.mode == APM_COMPOSITE;
    const auto done = [&](int32_t ray) {
      return next_[ray] >= rays_.steps[ray] || (composite && !(1.0f - seen_.opacity[rays_.rows[ray]] > 1.0f - look_.limit));
    };
    left_.erase(std::remove_if(left_.begin(), left_.end(), done), left_.end());
  }

  const RayField& field_;
  const ApmRays& rays_;
  const RayCells cells_;
  const ApmLook& look_;
  const ApmSeen& seen_;
  std::vector<int64_t> next_;  // the next step of each ray
  std::vector<int32_t> left_;  // rays that go on
  std::vector<Chunk> chunks_;
  int64_t block_ = 0;  // slots of a ray
  Buffer<float> points_, steps_, values_, lit_points_, lit_slopes_;
  Buffer<uint8_t> lengths_;
  Buffer<int32_t> counts_;  // samples of each ray that is left
};

}  // namespace

RayField field_of(Prepared& model) {
  return {[&model](const float* points, int64_t n, float* values) { find_values(model, points, n, values); },
          [&model](const float* points, int64_t n, float* values, float* slopes) {
            find_derivatives(model, points, n, values, slopes);
          },
          model.plan.outputs, model.plan.threads};
}

int64_t march(const RayField& field, const ApmRays& rays, const ApmCells& cells, const ApmLook& look, const ApmSeen& seen) {
  return March(field, rays, cells, look, seen).run();
}

}  // namespace apm
