// The 3 x 3 part of a transform (3, 4).
#pragma once

namespace apm {

// cofactor[r][c]: the derivative of the determinant by entry (r, c); over the determinant, entry (c, r) of the inverse.
inline void find_cofactors(const float* t, double (&cofactor)[3][3]) {
  for (int r = 0; r < 3; ++r)
    for (int c = 0; c < 3; ++c) {
      const int r1 = (r + 1) % 3, r2 = (r + 2) % 3, c1 = (c + 1) % 3, c2 = (c + 2) % 3;
      cofactor[r][c] = static_cast<double>(t[4 * r1 + c1]) * t[4 * r2 + c2] - static_cast<double>(t[4 * r1 + c2]) * t[4 * r2 + c1];
    }
}

inline double determinant(const float* t, const double (&cofactor)[3][3]) {
  return t[0] * cofactor[0][0] + t[1] * cofactor[0][1] + t[2] * cofactor[0][2];
}

}  // namespace apm
