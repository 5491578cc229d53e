# visa_ros_native_module(NAME SOURCES...): a pybind11 module of C++ kernels.
#
# Built as visa_ros/_NAME_base for any processor and, on x86-64, as visa_ros/_NAME_v3 with AVX2
# and FMA; visa_ros/_native.py picks at run time.  A source declares its module with
# PYBIND11_MODULE(VISA_MODULE, m) and includes visa_native.hpp for cpu_has_v3().
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()
if(NOT pybind11_DIR)
  execute_process(COMMAND "${Python3_EXECUTABLE}" -m pybind11 --cmakedir
    OUTPUT_VARIABLE pybind11_DIR OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
endif()
# Ubuntu 24.04's own, 2.11, misreads the types of NumPy 2.
find_package(pybind11 2.12 CONFIG REQUIRED)
find_package(Threads REQUIRED)

function(visa_ros_native_module name)
  set(levels base)
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
    list(APPEND levels v3)
  endif()
  foreach(level IN LISTS levels)
    set(target _${name}_${level})
    pybind11_add_module(${target} MODULE NO_EXTRAS ${ARGN})
    target_compile_features(${target} PRIVATE cxx_std_17)
    target_compile_definitions(${target} PRIVATE VISA_MODULE=${target})
    target_compile_options(${target} PRIVATE -O3 -fopenmp-simd -Wall -Wextra
      $<$<STREQUAL:${level},v3>:-march=x86-64-v3>)
    target_include_directories(${target} PRIVATE "${PROJECT_SOURCE_DIR}/src")
    target_link_libraries(${target} PRIVATE Threads::Threads)
    install(TARGETS ${target} DESTINATION "${PYTHON_INSTALL_DIR}/${PROJECT_NAME}")
  endforeach()
endfunction()
