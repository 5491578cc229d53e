// Vectors of floats, as wide as the build's processor level: 8 lanes with AVX, else 4.
//
// Written with the vector extensions of GCC and Clang, so one source serves SSE2, AVX2 and NEON.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

// Vectors only pass between inlined functions of one translation unit.
#pragma GCC diagnostic ignored "-Wpsabi"

namespace splat {

#if defined(__AVX__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

using Float = float __attribute__((vector_size(4 * kLanes)));
using Int = int32_t __attribute__((vector_size(4 * kLanes)));

#define SPLAT_INLINE inline __attribute__((always_inline))

SPLAT_INLINE Float broadcast(float x) { return x - Float{}; }
SPLAT_INLINE Float min(Float a, Float b) { return a < b ? a : b; }
SPLAT_INLINE Float max(Float a, Float b) { return a > b ? a : b; }

// `a` where the mask is set, else 0.
SPLAT_INLINE Float keep(Int mask, Float a) { return (Float)((Int)a & mask); }

SPLAT_INLINE Float load(const float* p) {
  Float a;
  std::memcpy(&a, p, sizeof a);
  return a;
}

SPLAT_INLINE void store(float* p, Float a) { std::memcpy(p, &a, sizeof a); }

SPLAT_INLINE Float sqrt(Float a) {
#if defined(__AVX__)
  return (Float)_mm256_sqrt_ps((__m256)a);
#elif defined(__SSE2__)
  return (Float)_mm_sqrt_ps((__m128)a);
#else
  for (int i = 0; i < kLanes; ++i) a[i] = __builtin_sqrtf(a[i]);
  return a;
#endif
}

// Whether the sign bit of every lane is set.
SPLAT_INLINE bool all_negative(Float a) {
#if defined(__AVX__)
  return _mm256_movemask_ps((__m256)a) == 0xff;
#elif defined(__SSE2__)
  return _mm_movemask_ps((__m128)a) == 0xf;
#else
  int32_t sign = -1;
  for (int i = 0; i < kLanes; ++i) sign &= ((Int)a)[i];
  return sign < 0;
#endif
}

// Whether any lane of a mask is set.
SPLAT_INLINE bool any(Int mask) { return !all_negative((Float)~mask); }

SPLAT_INLINE float sum(Float a) {
#if defined(__AVX__)
  __m128 b = _mm_add_ps(_mm256_castps256_ps128((__m256)a), _mm256_extractf128_ps((__m256)a, 1));
  b = _mm_add_ps(b, _mm_movehl_ps(b, b));
  return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
#else
  float s = a[0];
  for (int i = 1; i < kLanes; ++i) s += a[i];
  return s;
#endif
}

// 2^x for x in [-126, 127), relative error 2e-7; outside of that, any bits.
// Cody-Waite: the nearest integer goes to the exponent bits, the rest in [-0.5, 0.5] through a
// minimax polynomial of degree 5 (fitted by Lawson's reweighted least squares).
SPLAT_INLINE Float exp2(Float x) {
  const float magic = 12582912.f;  // 1.5 * 2^23: adding it rounds to an integer in the low bits
  const Float shifted = x + magic;
  const Float f = x - (shifted - magic);
  Float p = f * 1.326472726e-3f + 9.671512700e-3f;
  p = p * f + 5.550733744e-2f;
  p = p * f + 2.402224208e-1f;
  p = p * f + 6.931469776e-1f;
  p = p * f + 1.f;
  return (Float)((Int)p + ((Int)shifted << 23));
}

// The same with degree 3, relative error 7.5e-5: enough for bytes, and a tenth faster in all.
SPLAT_INLINE Float exp2_of_bytes(Float x) {
  const float magic = 12582912.f;
  const Float shifted = x + magic;
  const Float f = x - (shifted - magic);
  Float p = f * 5.517167e-2f + 2.4261114e-1f;
  p = p * f + 6.9326099e-1f;
  p = p * f + 9.9992807e-1f;
  return (Float)((Int)p + ((Int)shifted << 23));
}

}  // namespace splat
