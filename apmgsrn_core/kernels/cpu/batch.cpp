// From random numbers to a batch: positions, their values in the data, and their weights.
// Readable twin: `Sampler` in `apmgsrn_core/sampler.py`.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "interface.h"
#include "thread_pool.h"

namespace {

enum ValueType : int32_t { U8, I8, U16, I16, U32, I32, U64, I64, F32, F64 };

template <class T>
double read_as(const char* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return static_cast<double>(value);
}

double read_value(const ApmArray& array, const int64_t (&index)[3], int component) {
  const char* at = static_cast<const char*>(array.values) + component * array.strides[3];
  for (int a = 0; a < 3; ++a) at += index[a] * array.strides[a];
  switch (array.type) {
    case U8: return read_as<uint8_t>(at);
    case I8: return read_as<int8_t>(at);
    case U16: return read_as<uint16_t>(at);
    case I16: return read_as<int16_t>(at);
    case U32: return read_as<uint32_t>(at);
    case I32: return read_as<int32_t>(at);
    case U64: return read_as<uint64_t>(at);
    case I64: return read_as<int64_t>(at);
    case F32: return read_as<float>(at);
    default: return read_as<double>(at);
  }
}

// 0 at the minimum and 1 at the maximum.
float normalised(const ApmArray& array, double value) {
  return static_cast<float>(array.span != 0.0 ? (value - array.minimum) / array.span : 0.0 * value);
}

void take_value(const ApmArray& array, const double* unit, float* point, float* target) {
  int64_t index[3];
  for (int a = 0; a < 3; ++a) {
    const int64_t last = array.dims[a] - 1;
    index[a] = std::min(static_cast<int64_t>(unit[a] * static_cast<double>(array.dims[a])), last);
    point[a] = last ? static_cast<float>(static_cast<double>(index[a]) * (2.0 / static_cast<double>(last)) - 1.0) : 0.0f;
  }
  for (int c = 0; c < array.components; ++c) target[c] = normalised(array, read_value(array, index, c));
}

// Trilinear, between the first and the last value.
void take_between(const ApmArray& array, const double* unit, float* point, float* target) {
  int64_t low[3];
  double fraction[3];
  for (int a = 0; a < 3; ++a) {
    const int64_t last = array.dims[a] - 1;
    const double position = unit[a] * static_cast<double>(last);
    low[a] = std::min(static_cast<int64_t>(position), std::max<int64_t>(last - 1, 0));
    fraction[a] = position - static_cast<double>(low[a]);
    point[a] = last ? static_cast<float>(position * (2.0 / static_cast<double>(last)) - 1.0) : 0.0f;
  }
  double sums[1024] = {};
  for (int corner = 0; corner < 8; ++corner) {
    double weight = 1.0;
    int64_t index[3];
    for (int a = 0; a < 3; ++a) {
      const int up = corner >> a & 1;
      weight *= up ? fraction[a] : 1.0 - fraction[a];
      index[a] = std::min(low[a] + up, array.dims[a] - 1);
    }
    if (weight <= 0.0) continue;
    for (int c = 0; c < array.components; ++c) sums[c] += weight * static_cast<double>(normalised(array, read_value(array, index, c)));
  }
  for (int c = 0; c < array.components; ++c) target[c] = static_cast<float>(sums[c]);
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
  apm::parallel(static_cast<int>((n + PART - 1) / PART), threads, [=](int part, int) {
    for (int64_t i = part * PART; i < std::min((part + 1) * PART, n); ++i) {
      double* at = unit + 3 * i;
      float* target = targets + i * components;
      if (draw->cumulative && i < draw->picked) move_to_block(*draw, draw->picks[i], at);
      blocks[i] = block_of(*draw, at);
      (draw->continuous ? take_between : take_value)(*array, at, points + 3 * i, target);
      weights[i] = draw->cumulative ? static_cast<float>(1.0 / ((1.0 - share) + share * draw->probability[blocks[i]] * static_cast<double>(count))) : 1.0f;
      bool finite = true;
      for (int c = 0; c < components; ++c) finite = finite && std::isfinite(target[c]);
      if (finite) continue;
      weights[i] = 0.0f;
      std::fill_n(target, components, 0.0f);
    }
  });
}
