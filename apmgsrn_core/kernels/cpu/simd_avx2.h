// Vectors of 8 floats (AVX2 and FMA).
#pragma once
#include <immintrin.h>
#include <cstdint>
#include <cstring>

namespace {

constexpr int W = 8;
constexpr int GEMM_ROWS = 4, GEMM_VECTORS = 2, GRADIENT_ROWS = 2;
using V = __m256;
using I = __m256i;
using Mask = __m256;  // all bits of a lane

inline V load(const float* p) { return _mm256_loadu_ps(p); }
inline void store(float* p, V v) { _mm256_storeu_ps(p, v); }
inline V all(float a) { return _mm256_set1_ps(a); }
inline V zero() { return _mm256_setzero_ps(); }
inline V fma(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
inline V least(V a, V b) { return _mm256_min_ps(a, b); }
inline V most(V a, V b) { return _mm256_max_ps(a, b); }
inline V magnitude(V a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
inline V floor_of(V a) { return _mm256_floor_ps(a); }
inline V nearest(V a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline Mask less(V a, V b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
inline Mask both(Mask a, Mask b) { return _mm256_and_ps(a, b); }
inline Mask not_equal(V a, V b) { return _mm256_cmp_ps(a, b, _CMP_NEQ_UQ); }
inline V where(Mask m, V a, V b) { return _mm256_blendv_ps(b, a, m); }
inline uint32_t bits(Mask m) { return static_cast<uint32_t>(_mm256_movemask_ps(m)); }
inline Mask mask_of(uint32_t b) {
  const I lane = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  return _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(static_cast<int>(b)), lane), lane));
}
inline I whole(V a) { return _mm256_cvttps_epi32(a); }
inline I multiply_add(I a, int b, I c) { return _mm256_add_epi32(_mm256_mullo_epi32(a, _mm256_set1_epi32(b)), c); }
inline void store(int32_t* p, I a) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), a); }
inline V times_power_of_2(V a, V exponent) {
  I shifted = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(exponent), _mm256_set1_epi32(127)), 23);
  return _mm256_mul_ps(a, _mm256_castsi256_ps(shifted));
}

// For each mask the lanes that are set, in order (`pick`), and for each lane its place among them (`place`).
struct LaneTable {
  uint32_t pick[256][8], place[256][8];
  constexpr LaneTable() : pick(), place() {
    for (int m = 0; m < 256; ++m) {
      uint32_t n = 0;
      for (uint32_t lane = 0; lane < 8; ++lane) {
        place[m][lane] = n;
        if (m >> lane & 1) pick[m][n++] = lane;
      }
    }
  }
};
constexpr LaneTable lanes;

// The lanes in the mask, side by side; returns how many.
inline int compress(float* p, Mask m, V a) {
  const uint32_t b = bits(m);
  const I order = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(lanes.pick[b]));
  _mm256_storeu_ps(p, _mm256_permutevar8x32_ps(a, order));
  return __builtin_popcount(b);
}
inline V expand(const float* p, Mask m) {
  const I order = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(lanes.place[bits(m)]));
  return _mm256_and_ps(_mm256_permutevar8x32_ps(_mm256_loadu_ps(p), order), m);
}

inline void deinterleave2(V a, V b, V& even, V& odd) {
  V low = _mm256_permute2f128_ps(a, b, 0x20), high = _mm256_permute2f128_ps(a, b, 0x31);
  even = _mm256_shuffle_ps(low, high, 0x88);
  odd = _mm256_shuffle_ps(low, high, 0xDD);
}
inline void interleave2(V even, V odd, V& a, V& b) {
  V low = _mm256_unpacklo_ps(even, odd), high = _mm256_unpackhi_ps(even, odd);
  a = _mm256_permute2f128_ps(low, high, 0x20);
  b = _mm256_permute2f128_ps(low, high, 0x31);
}
// The sums of four vectors.
inline void sum4(V a, V b, V c, V d, float* out) {
  V ab = _mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
  V cd = _mm256_add_ps(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
  V s = _mm256_add_ps(_mm256_shuffle_ps(ab, cd, 0x44), _mm256_shuffle_ps(ab, cd, 0xEE));
  _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1)));
}
inline float sum(V a) {
  float out[4];
  sum4(a, zero(), zero(), zero(), out);
  return out[0];
}

}  // namespace
