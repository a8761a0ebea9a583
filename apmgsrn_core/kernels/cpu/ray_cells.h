// The next samples of a ray that may be seen: leaps over empty cells, longer steps where little changes.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "interface.h"

namespace apm {

class RayCells {
 public:
  explicit RayCells(const ApmCells& cells) : cells_(cells) {
    for (int a = 0; a < 3; ++a) counts_[a] = static_cast<float>(cells.counts[a]);
  }

  // Number of the cell of a point, and where it is along each axis.
  int64_t number_of(const float (&point)[3], int (&place)[3]) const {
    for (int a = 0; a < 3; ++a) {
      const float at = point[a] * counts_[a];
      place[a] = at > 0.0f ? std::min(static_cast<int>(std::min(at, counts_[a])), cells_.counts[a] - 1) : 0;
    }
    return place[0] + static_cast<int64_t>(cells_.counts[0]) * (place[1] + static_cast<int64_t>(cells_.counts[1]) * place[2]);
  }

  // Steps from a point to the first sample beyond the empty cells around it, `far` cells wide.
  int64_t steps_out(const float (&point)[3], const float* along, const int (&place)[3], int far) const {
    float steps = std::numeric_limits<float>::infinity();
    for (int a = 0; a < 3; ++a) {
      if (along[a] == 0.0f) continue;
      const float bound = static_cast<float>(along[a] > 0.0f ? place[a] + far : place[a] + 1 - far) / counts_[a];
      steps = std::min(steps, (bound - point[a]) / along[a]);
    }
    return static_cast<int64_t>(std::min(std::max(steps, 0.0f), 1e6f)) + 1;
  }

  int far(int64_t cell) const { return cells_.far[cell]; }
  int length(int64_t cell) const { return cells_.lengths ? cells_.lengths[cell] : 1; }
  float highest(int64_t cell) const { return cells_.highest[cell]; }

 private:
  const ApmCells& cells_;
  float counts_[3];
};

}  // namespace apm
