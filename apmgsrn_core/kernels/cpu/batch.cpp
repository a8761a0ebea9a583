// From random numbers to a batch: positions, their values in the data, and their weights.
// Readable twin: `Sampler` in `apmgsrn_core/training/sampler.py`.
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

// A position between the first and the last value: the corner below it, and how far it is from there.
struct Between {
  const char* at;
  double low[3], high[3];
};

Between locate_between(const ApmArray& array, const double* unit, float* point) {
  Between place;
  place.at = static_cast<const char*>(array.values);
  for (int a = 0; a < 3; ++a) {
    const int64_t last = array.dims[a] - 1;
    const double position = unit[a] * static_cast<double>(last);
    const int64_t index = std::min(static_cast<int64_t>(position), std::max<int64_t>(last - 1, 0));
    place.at += index * array.strides[a];
    place.high[a] = position - static_cast<double>(index);
    place.low[a] = 1.0 - place.high[a];
    point[a] = last ? static_cast<float>(position * (2.0 / static_cast<double>(last)) - 1.0) : 0.0f;
  }
  return place;
}

// Trilinear. A corner without weight is not read: it may be a hole, or not be there.
template <class T>
void take_between(const ApmArray& array, const Between& place, float* target) {
  for (int c = 0; c < array.components; ++c) {
    double sum = 0.0;
    for (int corner = 0; corner < 8; ++corner) {
      const bool x = corner & 1, y = corner & 2, z = corner & 4;
      const double weight = (x ? place.high : place.low)[0] * (y ? place.high : place.low)[1] * (z ? place.high : place.low)[2];
      const int64_t offset = (x ? array.strides[0] : 0) + (y ? array.strides[1] : 0) + (z ? array.strides[2] : 0);
      if (weight > 0.0) sum += weight * read<T>(place.at + offset + c * array.strides[3]);
    }
    target[c] = normalised(array, sum);
  }
}

// Points and targets of `count` positions; what they need of the data is asked for some positions ahead.
template <class T>
void take(const ApmArray& array, bool continuous, const double* unit, int64_t count, float* points, float* targets) {
  if (!continuous) {
    for (int64_t i = 0; i < count; ++i) take_value<T>(array, unit + 3 * i, points + 3 * i, targets + i * array.components);
    return;
  }
  constexpr int AHEAD = 16;
  Between places[AHEAD];
  for (int64_t first = 0; first < count; first += AHEAD) {
    const int some = static_cast<int>(std::min<int64_t>(AHEAD, count - first));
    for (int i = 0; i < some; ++i) {
      const char* at = (places[i] = locate_between(array, unit + 3 * (first + i), points + 3 * (first + i))).at;
      for (int corner = 0; corner < 4; ++corner)
        __builtin_prefetch(at + (corner & 1 ? array.strides[1] : 0) + (corner & 2 ? array.strides[2] : 0));
    }
    for (int i = 0; i < some; ++i) take_between<T>(array, places[i], targets + (first + i) * array.components);
  }
}

using Take = void (*)(const ApmArray&, bool, const double*, int64_t, float*, float*);

Take taker_of(int32_t type) {
  switch (type) {
    case U8: return take<uint8_t>;
    case I8: return take<int8_t>;
    case U16: return take<uint16_t>;
    case I16: return take<int16_t>;
    case U32: return take<uint32_t>;
    case I32: return take<int32_t>;
    case U64: return take<uint64_t>;
    case I64: return take<int64_t>;
    case F32: return take<float>;
    default: return take<double>;
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

extern "C" void apm_random(uint64_t seed, uint64_t first, int64_t count, double* numbers, int threads) {
  constexpr int64_t PART = 1 << 12;
  apm::parallel(static_cast<int>((count + PART - 1) / PART), threads, [=](int part, int) {
    for (int64_t i = part * PART; i < std::min((part + 1) * PART, count); ++i) {
      uint64_t z = seed + (first + static_cast<uint64_t>(i) + 1) * 0x9e3779b97f4a7c15u;
      z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
      z = (z ^ z >> 27) * 0x94d049bb133111ebu;
      numbers[i] = static_cast<double>((z ^ z >> 31) >> 11) * 0x1.0p-53;
    }
  });
}

extern "C" void apm_draw(const ApmArray* array, const ApmDraw* draw, double* unit, int64_t n, float* points, float* targets,
                         float* weights, int64_t* blocks, int threads) {
  constexpr int64_t PART = 512;
  const int64_t count = static_cast<int64_t>(draw->blocks[0]) * draw->blocks[1] * draw->blocks[2];
  const double share = draw->cumulative && n ? static_cast<double>(draw->picked) / static_cast<double>(n) : 0.0;
  const int components = array->components;
  const Take take = taker_of(array->type);
  apm::parallel(static_cast<int>((n + PART - 1) / PART), threads, [=](int part, int) {
    const int64_t start = part * PART, stop = std::min(start + PART, n);
    for (int64_t i = start; i < stop; ++i) {
      if (draw->cumulative && i < draw->picked) move_to_block(*draw, draw->picks[i], unit + 3 * i);
      blocks[i] = block_of(*draw, unit + 3 * i);
      weights[i] = draw->cumulative ? static_cast<float>(1.0 / ((1.0 - share) + share * draw->probability[blocks[i]] * static_cast<double>(count))) : 1.0f;
    }
    take(*array, draw->continuous, unit + 3 * start, stop - start, points + 3 * start, targets + start * components);
    for (int64_t i = start; i < stop; ++i) {
      float* target = targets + i * components;
      if (std::all_of(target, target + components, [](float value) { return std::isfinite(value); })) continue;
      weights[i] = 0.0f;
      std::fill_n(target, components, 0.0f);
    }
  });
}
