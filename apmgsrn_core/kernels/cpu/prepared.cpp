#include "prepared.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>

#include "matrix.h"
#include "thread_pool.h"

namespace apm {
namespace {

size_t up(size_t n, size_t step) { return (n + step - 1) / step * step; }

uint16_t rounded_half(float value) {
  uint32_t b;
  std::memcpy(&b, &value, 4);
  if ((b & 0x7fffffff) > 0x7f800000) return static_cast<uint16_t>(b >> 16 | 0x40);
  return static_cast<uint16_t>((b + 0x7fff + (b >> 16 & 1)) >> 16);
}

void place_axis(Slot& slot, int axis) {
  const int n = slot.resolution[axis];
  const bool lattice = slot.transform < 0;
  slot.nodes[axis] = slot.quadratic && n == 2 ? 3 : n;
  const float ramp = slot.quadratic ? 1.5f : 1.0f;
  slot.reach[axis] = n > 1 ? 1.0f + 2.0f * ramp / static_cast<float>(n - 1) : std::numeric_limits<float>::infinity();
  const float half = 0.5f * static_cast<float>(slot.quadratic && lattice ? n - 2 : n - 1);
  slot.scale[axis] = n > 1 ? half : 0.0f;
  slot.shift[axis] = n > 1 ? half + (slot.quadratic && lattice ? 0.5f : 0.0f) : 0.0f;
}

// The box of normalised coordinates outside of which a slot is zero, a little larger than exact.
void find_bounds(const Slot& slot, const float* transforms, float (&low)[3], float (&high)[3]) {
  constexpr float FAR = std::numeric_limits<float>::infinity();
  std::fill_n(low, 3, -FAR);
  std::fill_n(high, 3, FAR);
  if (slot.transform < 0) return;
  const float* t = transforms + 12 * static_cast<size_t>(slot.transform);
  double cofactor[3][3], size = 0.0;  // the inverse takes the grid's cube here
  find_cofactors(t, cofactor);
  const double volume = determinant(t, cofactor);
  for (const auto& row : cofactor)
    for (double entry : row) size += std::fabs(entry);
  if (!(std::fabs(volume) > 1e-12 * size)) return;  // flat or not a number: everywhere
  for (int b = 0; b < 3; ++b) {
    double centre = 0.0, half = 0.0;
    for (int a = 0; a < 3; ++a) {
      const double inverse = cofactor[a][b] / volume;
      centre -= inverse * t[4 * a + 3];
      half += std::isinf(slot.reach[a]) ? FAR : std::fabs(inverse) * slot.reach[a];
    }
    const double margin = 1e-4 * (1.0 + half + std::fabs(centre));
    low[b] = static_cast<float>(centre - half - margin);
    high[b] = static_cast<float>(centre + half + margin);
  }
}

}  // namespace

template <class T>
Buffer<T>::Buffer(size_t count, bool zeroed) : count_(count) {
  const size_t bytes = up((count + SPARE) * sizeof(T), 64);
  void* memory = std::aligned_alloc(64, bytes);
  if (!memory) throw std::bad_alloc();
  if (zeroed) std::memset(memory, 0, bytes);
  data_.reset(static_cast<T*>(memory));
}
template class Buffer<float>;
template class Buffer<int32_t>;
template class Buffer<uint16_t>;
template class Buffer<uint8_t>;

Prepared::Prepared(const ApmModel& model, const Kernels& chosen, bool fast, int threads) : kernels(chosen) {
  plan.layer_count = model.layer_count;
  plan.columns = model.widths[0];
  plan.outputs = model.widths[model.layer_count];
  plan.threads = threads > 1 ? threads : 1;
  plan.fast = fast;
  for (int l = 1; l <= model.layer_count; ++l)
    if (model.widths[l] > plan.widest) plan.widest = model.widths[l];
  lay_out(model);
  packed_ = Buffer<float>(packed_floats);
  plan.packed = packed_.data();
  transforms_ = Buffer<float>(static_cast<size_t>(transform_count) * 12);
  plan.transforms = transforms_.data();
  boxes_ = Buffer<float>(6 * up(slots_.size(), SPARE));
  plan.boxes = boxes_.data();
  lay_out_decoder(model);
  update(model);
}

Prepared::~Prepared() = default;

void Prepared::update(const ApmModel& model) {
  if (transform_count) std::memcpy(transforms_.data(), model.transforms, sizeof(float) * 12 * transform_count);
  parallel(plan.slot_count, plan.threads, [&](int s, int) { pack(slots_[s], model.features, packed_.data()); });
  fill_boxes();
  fill_decoder(model);
}

void Prepared::fill_boxes() {
  const size_t stride = up(slots_.size(), SPARE);
  for (size_t s = 0; s < slots_.size(); ++s) {
    float low[3], high[3];
    find_bounds(slots_[s], transforms_.data(), low, high);
    for (int a = 0; a < 3; ++a) {
      boxes_.data()[a * stride + s] = low[a];
      boxes_.data()[(3 + a) * stride + s] = high[a];
    }
  }
}

void Prepared::open_spaces() {
  while (static_cast<int>(memory.spaces.size()) < plan.threads) memory.spaces.push_back(std::make_unique<Workspace>(plan));
}

void Prepared::lay_out(const ApmModel& model) {
  int column = 0;
  for (int g = 0; g < model.grid_count; ++g) {
    const ApmGrid& grid = model.grids[g];
    if (grid.transform >= transform_count) transform_count = grid.transform + 1;
    const size_t nodes = static_cast<size_t>(grid.resolution[0]) * grid.resolution[1] * grid.resolution[2];
    const int most = grid.quadratic ? MOST_WIDTH / 2 : MOST_WIDTH;
    for (int first = 0; first < grid.features; first += most) {
      Slot slot{};
      std::memcpy(slot.resolution, grid.resolution, sizeof slot.resolution);
      slot.features = grid.features - first < most ? grid.features - first : most;
      slot.width = 1;
      while (slot.width < slot.features) slot.width *= 2;
      slot.column = column + first;
      slot.transform = grid.transform;
      slot.quadratic = grid.quadratic;
      for (int a = 0; a < 3; ++a) place_axis(slot, a);
      slot.planar = feature_count + first * nodes;
      slot.packed = packed_floats;
      // Rows may reach past the last node; what lies there belongs to nobody else.
      packed_floats += up((static_cast<size_t>(slot.nodes[0]) * slot.nodes[1] * slot.nodes[2] + 4) * slot.width, 16);
      slots_.push_back(slot);
    }
    column += grid.features;
    feature_count += nodes * grid.features;
  }
  plan.slots = slots_.data();
  plan.slot_count = static_cast<int>(slots_.size());
}

void Prepared::pack(const Slot& slot, const float* flat, float* packed) const {
  const int *r = slot.resolution, *n = slot.nodes;
  for (int f = 0; f < slot.features; ++f) {
    const float* from = flat + slot.planar + static_cast<size_t>(f) * r[0] * r[1] * r[2];
    for (int z = 0; z < r[2]; ++z)
      for (int y = 0; y < r[1]; ++y) {
        float* to = packed + slot.packed + (static_cast<size_t>(z) * n[1] + y) * n[0] * slot.width + f;
        for (int x = 0; x < r[0]; ++x) to[static_cast<size_t>(x) * slot.width] = *from++;
      }
  }
}

void Prepared::unpack(const Slot& slot, const float* packed, float* flat) const {
  const int *r = slot.resolution, *n = slot.nodes;
  for (int f = 0; f < slot.features; ++f) {
    float* to = flat + slot.planar + static_cast<size_t>(f) * r[0] * r[1] * r[2];
    for (int z = 0; z < r[2]; ++z)
      for (int y = 0; y < r[1]; ++y) {
        const float* from = packed + slot.packed + (static_cast<size_t>(z) * n[1] + y) * n[0] * slot.width + f;
        for (int x = 0; x < r[0]; ++x) *to++ = from[static_cast<size_t>(x) * slot.width];
      }
  }
}

void Prepared::lay_out_decoder(const ApmModel& model) {
  size_t floats = 0, halves = 0;
  for (int l = 0; l < plan.layer_count; ++l) {
    const size_t in = model.widths[l], out = model.widths[l + 1];
    floats += (2 * in + 1) * out;
    halves += up(out, 16) * up(in, 32) + up(in, 32) * up(out, 32);
  }
  if (model.skip) floats += 2 * static_cast<size_t>(plan.columns) * plan.outputs;
  decoder_ = Buffer<float>(floats);
  if (plan.fast) halves_ = Buffer<uint16_t>(halves);
}

void Prepared::fill_decoder(const ApmModel& model) {
  float* free = decoder_.data();
  uint16_t* half = halves_.data();
  const auto copy = [&](const float* from, size_t count) -> const float* {
    if (!from) return nullptr;
    std::memcpy(free, from, sizeof(float) * count);
    free += count;
    return free - count;
  };
  const auto turn = [&](const float* weights, int in, int out) {
    float* to = free;
    for (int k = 0; k < in; ++k)
      for (int m = 0; m < out; ++m) to[static_cast<size_t>(k) * out + m] = weights[static_cast<size_t>(m) * in + k];
    free += static_cast<size_t>(in) * out;
    return to;
  };
  for (int l = 0; l < plan.layer_count; ++l) {
    const int in = model.widths[l], out = model.widths[l + 1];
    Layer& layer = plan.layers[l];
    layer.in = in;
    layer.out = out;
    layer.weights = copy(model.weights[l], static_cast<size_t>(in) * out);
    layer.transposed = turn(model.weights[l], in, out);
    layer.bias = copy(model.biases[l], out);
    if (!plan.fast) continue;
    uint16_t* straight = half;
    uint16_t* across = half + up(out, 16) * up(in, 32);
    half = across + up(in, 32) * up(out, 32);
    for (int m = 0; m < out; ++m)
      for (int k = 0; k < in; ++k)
        straight[m * up(in, 32) + k] = across[k * up(out, 32) + m] = rounded_half(layer.weights[static_cast<size_t>(m) * in + k]);
    layer.half = straight;
    layer.half_transposed = across;
  }
  plan.skip = copy(model.skip, static_cast<size_t>(plan.columns) * plan.outputs);
  if (model.skip) plan.skip_transposed = turn(model.skip, plan.columns, plan.outputs);
}

size_t half_scratch_bytes(const Plan& plan) {
  const size_t widest = up(plan.widest > plan.columns ? plan.widest : plan.columns, 32);
  return 2 * (4 * widest * TILE + widest * up(plan.widest, 32));
}

Workspace::Workspace(const Plan& plan) {
  size_t floats = 2 * up(plan.columns, 16) * TILE + 2 * up(plan.widest, 16) * TILE + 2 * up(plan.outputs, 16) * TILE;
  for (int l = 0; l < plan.layer_count; ++l) floats += up(plan.layers[l].out, 16) * TILE;
  floats_ = Buffer<float>(floats);
  numbers_ = Buffer<int32_t>(plan.columns + plan.slot_count);
  float* at = floats_.data();
  const auto take = [&](size_t rows) {
    float* from = at;
    at += up(rows, 16) * TILE;
    return from;
  };
  scratch.encoded.rows = take(plan.columns);
  slopes = take(plan.columns);
  for (float*& hidden_slopes : scratch.slopes) hidden_slopes = take(plan.widest);
  for (int l = 0; l < plan.layer_count; ++l) scratch.hidden[l] = take(plan.layers[l].out);
  values = take(plan.outputs);
  value_slopes = take(plan.outputs);
  scratch.encoded.columns = numbers_.data();
  scratch.encoded.row = numbers_.data() + plan.columns;
  if (plan.fast) {
    halves_ = Buffer<uint16_t>(half_scratch_bytes(plan) / 2);
    scratch.half = halves_.data();
  }
}

size_t ChunkSums::floats(const Plan& plan) {
  size_t floats = plan.skip ? static_cast<size_t>(plan.columns) * plan.outputs : 0;
  for (int l = 0; l < plan.layer_count; ++l) floats += (static_cast<size_t>(plan.layers[l].in) + 1) * plan.layers[l].out;
  return floats;
}

ChunkSums::ChunkSums(const Plan& plan) : floats_(floats(plan)) {
  float* at = floats_.data();
  for (int l = 0; l < plan.layer_count; ++l) {
    sums.weights[l] = at;
    at += static_cast<size_t>(plan.layers[l].in) * plan.layers[l].out;
    sums.biases[l] = at;
    at += plan.layers[l].out;
  }
  sums.skip = plan.skip ? at : nullptr;
}

}  // namespace apm
