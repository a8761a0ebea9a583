// Short rows of floats in memory (the neighbours of a point along x), and their transposition into vectors.
#pragma once
#include <cstring>

namespace {

template <int N>
struct Row {
  typedef float type __attribute__((vector_size(N * sizeof(float))));
};

template <int N>
inline typename Row<N>::type load_row(const float* p) {
  typename Row<N>::type r;
  std::memcpy(&r, p, sizeof r);
  return r;
}
template <int N>
inline void store_row(float* p, const typename Row<N>::type& r) {
  std::memcpy(p, &r, sizeof r);
}

// W rows of N floats, side by side in the N vectors, become N vectors: v[j] has element j of each row.
template <int N>
inline void deinterleave(V* v) {
  if constexpr (N > 1) {
    V even[N / 2], odd[N / 2];
    for (int k = 0; k < N / 2; ++k) deinterleave2(v[2 * k], v[2 * k + 1], even[k], odd[k]);
    deinterleave<N / 2>(even);
    deinterleave<N / 2>(odd);
    for (int k = 0; k < N / 2; ++k) {
      v[2 * k] = even[k];
      v[2 * k + 1] = odd[k];
    }
  }
}

// The inverse of `deinterleave`.
template <int N>
inline void interleave(V* v) {
  if constexpr (N > 1) {
    V even[N / 2], odd[N / 2];
    for (int k = 0; k < N / 2; ++k) {
      even[k] = v[2 * k];
      odd[k] = v[2 * k + 1];
    }
    interleave<N / 2>(even);
    interleave<N / 2>(odd);
    for (int k = 0; k < N / 2; ++k) interleave2(even[k], odd[k], v[2 * k], v[2 * k + 1]);
  }
}

}  // namespace
