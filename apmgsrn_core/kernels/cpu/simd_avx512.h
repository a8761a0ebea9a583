// Vectors of 16 floats (AVX-512 F, DQ, BW, VL).
#pragma once
#include <immintrin.h>
#include <cstdint>

namespace {

constexpr int W = 16;
constexpr int GEMM_ROWS = 8, GEMM_VECTORS = 2, GRADIENT_ROWS = 4;
using V = __m512;
using I = __m512i;
using Mask = __mmask16;

inline V load(const float* p) { return _mm512_loadu_ps(p); }
inline void store(float* p, V v) { _mm512_storeu_ps(p, v); }
inline V all(float a) { return _mm512_set1_ps(a); }
inline V zero() { return _mm512_setzero_ps(); }
inline V fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
inline V least(V a, V b) { return _mm512_min_ps(a, b); }
inline V most(V a, V b) { return _mm512_max_ps(a, b); }
inline V magnitude(V a) { return _mm512_abs_ps(a); }
inline V floor_of(V a) { return _mm512_roundscale_ps(a, 9); }
inline V nearest(V a) { return _mm512_roundscale_ps(a, 8); }
inline Mask less(V a, V b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
inline Mask both(Mask a, Mask b) { return a & b; }
inline Mask not_equal(V a, V b) { return _mm512_cmp_ps_mask(a, b, _CMP_NEQ_UQ); }
inline V where(Mask m, V a, V b) { return _mm512_mask_mov_ps(b, m, a); }
inline uint32_t bits(Mask m) { return m; }
inline Mask mask_of(uint32_t b) { return static_cast<Mask>(b); }
inline I whole(V a) { return _mm512_cvttps_epi32(a); }
inline I multiply_add(I a, int b, I c) { return _mm512_add_epi32(_mm512_mullo_epi32(a, _mm512_set1_epi32(b)), c); }
inline void store(int32_t* p, I a) { _mm512_storeu_si512(p, a); }
inline V times_power_of_2(V a, V exponent) { return _mm512_scalef_ps(a, exponent); }

// The lanes in the mask, side by side; returns how many.
inline int compress(float* p, Mask m, V a) {
  _mm512_storeu_ps(p, _mm512_maskz_compress_ps(m, a));
  return __builtin_popcount(m);
}
inline V expand(const float* p, Mask m) { return _mm512_maskz_expand_ps(m, _mm512_loadu_ps(p)); }

inline void deinterleave2(V a, V b, V& even, V& odd) {
  const I e = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  even = _mm512_permutex2var_ps(a, e, b);
  odd = _mm512_permutex2var_ps(a, _mm512_add_epi32(e, _mm512_set1_epi32(1)), b);
}
inline void interleave2(V even, V odd, V& a, V& b) {
  const I low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  a = _mm512_permutex2var_ps(even, low, odd);
  b = _mm512_permutex2var_ps(even, _mm512_add_epi32(low, _mm512_set1_epi32(8)), odd);
}
inline float sum(V a) { return _mm512_reduce_add_ps(a); }
// The sums of four vectors.
inline void sum4(V a, V b, V c, V d, float* out) {
  V ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
  V cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
  V s = _mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xEE));
  __m256 h = _mm256_add_ps(_mm512_castps512_ps256(s), _mm512_extractf32x8_ps(s, 1));
  _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1)));
}

}  // namespace
