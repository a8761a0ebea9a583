// What samples are worth in a picture: colour and opacity of a value, light on it.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>

#include "interface.h"

namespace apm {

// Colour, and opacity of so many steps; transparent where the value is not a number.
inline void look_up(const ApmLook& look, float value, int length, float (&rgba)[4]) {
  const float last = static_cast<float>(look.rows - 1);
  const float place = std::clamp((value - look.table_first) * look.rows_per_value, 0.0f, last);
  if (!(place == place)) {
    std::fill_n(rgba, 4, 0.0f);
    return;
  }
  const int row = std::min(static_cast<int>(place), look.rows - 2);
  const float share = place - static_cast<float>(row);
  const float *one = look.table + 4 * static_cast<int64_t>(row), *other = one + 4;
  for (int c = 0; c < 4; ++c) rgba[c] = one[c] + share * (other[c] - one[c]);
  const float exponent = look.exponent * static_cast<float>(length);
  if (exponent != 1.0f && rgba[3] != 0.0f) rgba[3] = 1.0f - std::pow(1.0f - rgba[3], exponent);
}

// A head light that shines on both sides (`ray_light.py`); `slope` is d value / d normalised coordinate.
inline void light(const ApmLook& look, const float* direction, const float* slope, float (&colour)[3]) {
  float length = 0.0f, facing = 0.0f;
  for (int w = 0; w < 3; ++w) {
    float gradient = 0.0f;
    for (int a = 0; a < 3; ++a) gradient += slope[a] * look.slopes[3 * a + w];
    length += gradient * gradient;
    facing += gradient * direction[w];
  }
  length = std::sqrt(length);
  if (!(length > 1e-20f)) return;
  facing = std::min(std::abs(facing) / length, 1.0f);
  const float spot = look.specular * std::pow(facing, look.power);
  for (float& c : colour) c = std::clamp((look.ambient + look.diffuse * facing) * c + spot, 0.0f, 1.0f);
}

}  // namespace apm
