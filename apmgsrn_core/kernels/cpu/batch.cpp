// From random numbers to a batch: positions, their values in the data, and their weights.
// Readable twin: `Sampler` in `apmgsrn_core/sampler.py`.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "interface.h"
#include "thread_pool.h"

namespace {

enum ValueType : int32_t { U8, I8, U16, I16, U32, I32, U64, I64, F32, F64 };

// 0 at the minimum and 1 at the maximum.
float normalised(const ApmArray& array, double value) {
  return static_cast<float>(array.span != 0.0 ? (value - array.minimum) / array.span : 0.0 * value);
}

template <class T>
double read(const char* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return static_cast<double>(value);
}

// The data's own value at a position in the unit cube.
template <class T>
void take_value(const ApmArray& array, const double* unit, float* point, float* target) {
  const char* at = static_cast<const char*>(array.values);
  for (int a = 0; a < 3; ++a) {
    const int64_t last = array.dims[a] - 1;
    const int64_t index = std::min(static_cast<int64_t>(unit[a] * static_cast<double>(array.dims[a])), last);
    at += index * array.strides[a];
    point[a] = last ? static_cast<float>(static_cast<double>(index) * (2.0 / static_cast<double>(last)) - 1.0) : 0.0f;
  }
  for (int c = 0; c < array.components; ++c) target[c] = normalised(array, read<T>(at + c * array.strides[3]));
}

// Trilinear, between the first and the last value. A corner without weight is not read: it may be a hole.
template <class T>
void take_between(const ApmArray& array, const double* unit, float* point, float* target) {
  const char* at = static_cast<const char*>(array.values);
  double low[3], high[3];
  for (int a = 0; a < 3; ++a) {
    const int64_t last = array.dims[a] - 1;
    const double position = unit[a] * static_cast<double>(last);
    const int64_t index = std::min(static_cast<int64_t>(position), std::max<int64_t>(last - 1, 0));
    at += index * array.strides[a];
    high[a] = position - static_cast<double>(index);
    low[a] = 1.0 - high[a];
    point[a] = last ? static_cast<float>(position * (2.0 / static_cast<double>(last)) - 1.0) : 0.0f;
  }
  for (int c = 0; c < array.components; ++c) {
    double sum = 0.0;
    for (int corner = 0; corner < 8; ++corner) {
      const bool x = corner & 1, y = corner & 2, z = corner & 4;
      const double weight = (x ? high : low)[0] * (y ? high : low)[1] * (z ? high : low)[2];
      const int64_t offset = (x ? array.strides[0] : 0) + (y ? array.strides[1] : 0) + (z ? array.strides[2] : 0);
      if (weight > 0.0) sum += weight * read<T>(at + offset + c * array.strides[3]);
    }
    target[c] = normalised(array, sum);
  }
}

using Take = void (*)(const ApmArray&, const double*, float*, float*);

template <class T>
Take taker(bool continuous) {
  return continuous ? take_between<T> : take_value<T>;
}

Take taker_of(int32_t type, bool continuous) {
  switch (type) {
    case U8: return taker<uint8_t>(continuous);
    case I8: return taker<int8_t>(continuous);
    case U16: return taker<uint16_t>(continuous);
    case I16: return taker<int16_t>(continuous);
    case U32: return taker<uint32_t>(continuous);
    case I32: return taker<int32_t>(continuous);
    case U64: return taker<uint64_t>(continuous);
    case I64: return taker<int64_t>(continuous);
    case F32: return taker<float>(continuous);
    default: return taker<double>(continuous);
  }
}

int64_t block_of(const ApmDraw& draw, const double* unit) {
  int64_t cell[3];
  for (int a = 0; a < 3; ++a) cell[a] = std::min(static_cast<int64_t>(unit[a] * draw.blocks[a]), static_cast<int64_t>(draw.blocks[a]) - 1);
  return (cell[2] * draw.blocks[1] + cell[1]) * draw.blocks[0] + cell[0];
}

void move_to_block(const ApmDraw& draw, double pick, double* unit) {
  const int64_t count = static_cast<int64_t>(draw.blocks[0]) * draw.blocks[1] * draw.blocks[2];
  const int64_t block = std::min<int64_t>(std::lower_bound(draw.cumulative, draw.cumulative + count, pick) - draw.cumulative, count - 1);
  const int64_t corner[3] = {block % draw.blocks[0], block / draw.blocks[0] % draw.blocks[1], block / (static_cast<int64_t>(draw.blocks[0]) * draw.blocks[1])};
  for (int a = 0; a < 3; ++a) unit[a] = (static_cast<double>(corner[a]) + unit[a]) / draw.blocks[a];
}

}  // namespace

extern "C" void apm_draw(const ApmArray* array, const ApmDraw* draw, double* unit, int64_t n, float* points, float* targets,
                         float* weights, int64_t* blocks, int threads) {
  constexpr int64_t PART = 512;
  const int64_t count = static_cast<int64_t>(draw->blocks[0]) * draw->blocks[1] * draw->blocks[2];
  const double share = draw->cumulative && n ? static_cast<double>(draw->picked) / static_cast<double>(n) : 0.0;
  const int components = array->components;
  const Take take = taker_of(array->type, draw->continuous);
  apm::parallel(static_cast<int>((n + PART - 1) / PART), threads, [=](int part, int) {
    for (int64_t i = part * PART; i < std::min((part + 1) * PART, n); ++i) {
      double* at = unit + 3 * i;
      float* target = targets + i * components;
      if (draw->cumulative && i < draw->picked) move_to_block(*draw, draw->picks[i], at);
      blocks[i] = block_of(*draw, at);
      take(*array, at, points + 3 * i, target);
      weights[i] = draw->cumulative ? static_cast<float>(1.0 / ((1.0 - share) + share * draw->probability[blocks[i]] * static_cast<double>(count))) : 1.0f;
      bool finite = true;
      for (int c = 0; c < components; ++c) finite = finite && std::isfinite(target[c]);
      if (finite) continue;
      weights[i] = 0.0f;
      std::fill_n(target, components, 0.0f);
    }
  });
}
