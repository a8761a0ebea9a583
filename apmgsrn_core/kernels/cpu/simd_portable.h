// Vectors of 8 floats in plain C++: any processor; the compiler uses what its target has.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

namespace {

constexpr int W = 8;
constexpr int GEMM_ROWS = 4, GEMM_VECTORS = 1, GRADIENT_ROWS = 1;
struct V {
  float v[W];
};
struct I {
  int32_t v[W];
};
struct Mask {
  int32_t v[W];  // 0 or -1
};

template <class R, class F>
inline R lanewise(F f) {
  R r;
  for (int i = 0; i < W; ++i) r.v[i] = f(i);
  return r;
}

inline V load(const float* p) {
  V r;
  std::memcpy(r.v, p, sizeof r.v);
  return r;
}
inline void store(float* p, const V& a) { std::memcpy(p, a.v, sizeof a.v); }
inline V all(float a) {
  return lanewise<V>([&](int) { return a; });
}
inline V zero() { return all(0.0f); }
inline V operator+(const V& a, const V& b) {
  return lanewise<V>([&](int i) { return a.v[i] + b.v[i]; });
}
inline V operator-(const V& a, const V& b) {
  return lanewise<V>([&](int i) { return a.v[i] - b.v[i]; });
}
inline V operator*(const V& a, const V& b) {
  return lanewise<V>([&](int i) { return a.v[i] * b.v[i]; });
}
inline V fma(const V& a, const V& b, const V& c) {
  return lanewise<V>([&](int i) { return a.v[i] * b.v[i] + c.v[i]; });
}
inline V least(const V& a, const V& b) {
  return lanewise<V>([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
}
inline V most(const V& a, const V& b) {
  return lanewise<V>([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
}
inline V magnitude(const V& a) {
  return lanewise<V>([&](int i) { return std::fabs(a.v[i]); });
}
inline V floor_of(const V& a) {
  return lanewise<V>([&](int i) { return std::floor(a.v[i]); });
}
inline V nearest(const V& a) {
  return lanewise<V>([&](int i) { return std::nearbyint(a.v[i]); });
}
inline Mask less(const V& a, const V& b) {
  return lanewise<Mask>([&](int i) { return -(a.v[i] < b.v[i]); });
}
inline Mask both(const Mask& a, const Mask& b) {
  return lanewise<Mask>([&](int i) { return a.v[i] & b.v[i]; });
}
inline Mask not_equal(const V& a, const V& b) {
  return lanewise<Mask>([&](int i) { return -(a.v[i] != b.v[i]); });
}
inline V where(const Mask& m, const V& a, const V& b) {
  return lanewise<V>([&](int i) { return m.v[i] ? a.v[i] : b.v[i]; });
}
inline uint32_t bits(const Mask& m) {
  uint32_t r = 0;
  for (int i = 0; i < W; ++i) r |= static_cast<uint32_t>(m.v[i] & 1) << i;
  return r;
}
inline Mask mask_of(uint32_t b) {
  return lanewise<Mask>([&](int i) { return -static_cast<int32_t>(b >> i & 1); });
}
inline I whole(const V& a) {
  return lanewise<I>([&](int i) { return static_cast<int32_t>(a.v[i]); });
}
inline I multiply_add(const I& a, int b, const I& c) {
  return lanewise<I>([&](int i) { return a.v[i] * b + c.v[i]; });
}
inline void store(int32_t* p, const I& a) { std::memcpy(p, a.v, sizeof a.v); }
inline V times_power_of_2(const V& a, const V& exponent) {
  return lanewise<V>([&](int i) { return std::ldexp(a.v[i], static_cast<int>(exponent.v[i])); });
}

// The lanes in the mask, side by side; returns how many.
inline int compress(float* p, const Mask& m, const V& a) {
  int n = 0;
  for (int i = 0; i < W; ++i) {
    p[n] = a.v[i];
    n += m.v[i] & 1;
  }
  return n;
}
inline V expand(const float* p, const Mask& m) {
  V r;
  for (int i = 0, n = 0; i < W; ++i) r.v[i] = m.v[i] ? p[n++] : 0.0f;
  return r;
}

inline void deinterleave2(const V& a, const V& b, V& even, V& odd) {
  even = lanewise<V>([&](int i) { return i < W / 2 ? a.v[2 * i] : b.v[2 * i - W]; });
  odd = lanewise<V>([&](int i) { return i < W / 2 ? a.v[2 * i + 1] : b.v[2 * i + 1 - W]; });
}
inline void interleave2(const V& even, const V& odd, V& a, V& b) {
  a = lanewise<V>([&](int i) { return i % 2 ? odd.v[i / 2] : even.v[i / 2]; });
  b = lanewise<V>([&](int i) { return i % 2 ? odd.v[W / 2 + i / 2] : even.v[W / 2 + i / 2]; });
}
inline float sum(const V& a) {
  float r = 0.0f;
  for (int i = 0; i < W; ++i) r += a.v[i];
  return r;
}
// The sums of four vectors.
inline void sum4(const V& a, const V& b, const V& c, const V& d, float* out) {
  out[0] = sum(a);
  out[1] = sum(b);
  out[2] = sum(c);
  out[3] = sum(d);
}

}  // namespace
