// What every kernel module of this package shares.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

namespace visa_native {

// The processor has the x86-64-v3 level (AVX2, FMA, BMI2) that the _v3 builds need.
inline bool cpu_has_v3() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("bmi2");
#else
  return false;
#endif
}

}  // namespace visa_native
