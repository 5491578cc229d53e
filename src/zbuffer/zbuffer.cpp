// Which triangle of a mesh is the nearest behind each pixel's centre.  The caller is
// visa_ros/reconstruction/zbuffer.py, which makes the arrays.
#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "visa_native.hpp"

namespace py = pybind11;

namespace {

template <class T>
using Array = py::array_t<T, py::array::c_style>;

constexpr double kNear = 0.05;      // metres; triangles that reach nearer are left out
constexpr double kOnEdge = -1e-9;   // barycentrics from which a pixel counts as inside

struct Point {
  double x, y, z;
};

double cross(const Point& a, const Point& b, double x, double y) {
  return (b.x - a.x) * (y - a.y) - (b.y - a.y) * (x - a.x);
}

// The first pixel whose centre is not before x, within [0, size].
int64_t pixel_from(double x, int64_t size) {
  return static_cast<int64_t>(std::clamp(std::ceil(x - 0.5), 0.0, static_cast<double>(size)));
}

void rasterize(const Array<float>& vertices, const Array<int32_t>& faces, const Array<float>& K,
               Array<float>& depth, Array<int32_t>& triangle, Array<float>& barycentric) {
  const int64_t height = depth.shape(0), width = depth.shape(1), count = vertices.shape(0);
  const int64_t pixels = height * width;
  if (triangle.size() != pixels || barycentric.size() != 3 * pixels || K.size() != 9 ||
      vertices.size() != 3 * count || faces.size() % 3) {
    throw std::invalid_argument("the arrays' shapes do not go together");
  }
  const float *vertex = vertices.data(), *k = K.data();
  const int32_t *face = faces.data(), *face_end = face + faces.size();
  if (std::any_of(face, face_end, [&](int32_t v) { return v < 0 || v >= count; })) {
    throw std::invalid_argument("a face names a vertex that is not there");
  }
  float* nearest = depth.mutable_data();
  int32_t* which = triangle.mutable_data();
  float* where = barycentric.mutable_data();
  py::gil_scoped_release release;
  for (int32_t t = 0; face < face_end; face += 3, ++t) {
    Point p[3];
    for (int c = 0; c < 3; ++c) {
      const float* v = vertex + 3 * face[c];
      p[c] = {v[0] / static_cast<double>(v[2]) * k[0] + k[2],
              v[1] / static_cast<double>(v[2]) * k[4] + k[5], v[2]};
    }
    if (!(std::min({p[0].z, p[1].z, p[2].z}) > kNear)) continue;
    const double area = cross(p[0], p[1], p[2].x, p[2].y);
    if (area == 0) continue;
    const auto [left, right] = std::minmax({p[0].x, p[1].x, p[2].x});
    const auto [top, bottom] = std::minmax({p[0].y, p[1].y, p[2].y});
    const int64_t x_end = std::min(width, pixel_from(right, width) + 1);
    const int64_t y_end = std::min(height, pixel_from(bottom, height) + 1);
    for (int64_t y = pixel_from(top, height); y < y_end; ++y) {
      for (int64_t x = pixel_from(left, width); x < x_end; ++x) {
        const double second = cross(p[2], p[0], x + 0.5, y + 0.5) / area;
        const double third = cross(p[0], p[1], x + 0.5, y + 0.5) / area;
        const double first = 1 - second - third;
        if (!(std::min({first, second, third}) >= kOnEdge)) continue;
        // Over the picture 1/z is linear, and so is each corner's share of it.
        const double share[3] = {first / p[0].z, second / p[1].z, third / p[2].z};
        const double z = 1 / (share[0] + share[1] + share[2]);
        const int64_t pixel = y * width + x;
        if (!(static_cast<float>(z) < nearest[pixel])) continue;
        nearest[pixel] = static_cast<float>(z);
        which[pixel] = t;
        for (int c = 0; c < 3; ++c) where[3 * pixel + c] = static_cast<float>(share[c] * z);
      }
    }
  }
}

}  // namespace

PYBIND11_MODULE(VISA_MODULE, m) {
  m.def("cpu_has_v3", &visa_native::cpu_has_v3);
  m.def("rasterize", &rasterize, py::arg("vertices"), py::arg("faces"), py::arg("K"),
        py::arg("depth").noconvert(), py::arg("triangle").noconvert(),
        py::arg("barycentric").noconvert());
}
