// Features as they are seen while they are learned to be rounded, and how their bits change with them; compiled for each
// instruction set. Readable twin: `apmgsrn_core/network/feature_bits.py`, where the formulas are.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#include "plan.h"

namespace {

// lowbias32 (C. Wellons 2018, "Prospecting for hash functions").
inline uint32_t hashed(uint32_t number) {
  number = (number ^ number >> 16) * 0x7FEB352Du;
  number = (number ^ number >> 15) * 0x846CA68Bu;
  return number ^ number >> 16;
}

// e^a for a <= 0, relative error 2e-7: 2^n times a polynomial in the rest, |rest| <= 1/2 (Taylor's, of 2^x).
inline float exponential(float a) {
  const float whole = a * 1.44269504f > -126.0f ? a * 1.44269504f : -126.0f;
  const int32_t n = static_cast<int32_t>(whole - 0.5f);  // towards 0: the nearest
  const float x = whole - static_cast<float>(n);
  float p = 1.5403530e-4f;
  p = p * x + 1.3333558e-3f;
  p = p * x + 9.6181291e-3f;
  p = p * x + 5.5504109e-2f;
  p = p * x + 2.4022651e-1f;
  p = p * x + 6.9314718e-1f;
  p = p * x + 1.0f;
  const int32_t bits = (n + 127) << 23;
  float power;
  std::memcpy(&power, &bits, sizeof power);
  return p * power;
}

void disturb_features(const float* features, float* disturbed, int64_t first, int64_t stop, float step, uint32_t seed) {
  for (int64_t i = first; i < stop; ++i) {
    const float uniform = static_cast<float>(static_cast<int32_t>(hashed(static_cast<uint32_t>(i) + seed) >> 8)) * 0x1p-24f;
    disturbed[i] = features[i] + step * (uniform - 0.5f);
  }
}

void round_features(const float* features, float* rounded, int64_t first, int64_t stop, float step) {
  for (int64_t i = first; i < stop; ++i) rounded[i] = std::nearbyint(features[i] / step) * step;
}

void add_bit_slopes(float* gradient, const float* features, const float* scales, int64_t first, int64_t stop, float step,
                    float weight) {
  constexpr float LEAST_PROBABILITY = 1e-9f, LN2 = 0.693147181f;
  const float times = weight / (step * LN2), per_step = 1.0f / step;
  for (int64_t i = first; i < stop; ++i) {
    const float number = features[i] * per_step, inverse = 1.0f / scales[i], size = std::fabs(number);
    const float inner = size < 0.5f ? size : 0.5f;
    const float low = exponential(-(inner + 0.5f) * inverse), high = exponential((inner - 0.5f) * inverse);
    const float outside = 1.0f - 0.5f * (low + high);
    const float within = 0.5f * inverse * (high - low) / (outside > LEAST_PROBABILITY ? outside : LEAST_PROBABILITY);
    const float slope = size < 0.5f ? within : inverse;
    gradient[i] += times * (number > 0.0f ? slope : number < 0.0f ? -slope : 0.0f);
  }
}

}  // namespace
