// Python's view of the CPU rasterizer: float32 arrays in, results into arrays that the caller
// owns.  Callers are visa_ros/rendering/splat_cpu.py and rasterization.py.
#include <stdexcept>
#include <string>

#include "projection.hpp"
#include "rasterizer.hpp"
#include "visa_native.hpp"
#include "workers.hpp"

namespace py = pybind11;

namespace {

using Floats = py::array_t<float, py::array::c_style>;
using Bytes = py::array_t<uint8_t, py::array::c_style>;

template <class Array>
auto* data_of(const Array& array, const char* name, int64_t size) {
  if (array.size() != size) {
    throw std::invalid_argument(std::string(name) + " must hold " + std::to_string(size) +
                                " values, got " + std::to_string(array.size()));
  }
  return const_cast<typename Array::value_type*>(array.data());
}

int thread_count(int threads) { return threads > 0 ? threads : splat::default_threads(); }

splat::Gaussians gaussians(const Floats& means, const Floats& quats, const Floats& scales,
                           const Floats& opacities) {
  const int64_t n = opacities.size();
  return {n, data_of(means, "means", 3 * n), data_of(quats, "quats", 4 * n),
          data_of(scales, "scales", 3 * n), opacities.data()};
}

splat::Camera camera(const Floats& viewmat, const Floats& K, int width, int height,
                     float near_plane, float far_plane, float eps2d) {
  const float* view = data_of(viewmat, "viewmat", 16);
  const float* k = data_of(K, "K", 9);
  splat::Camera c{{}, k[0], k[4], k[2], k[5], width, height, near_plane, far_plane, eps2d};
  std::copy_n(view, 12, c.view);
  return c;
}

splat::Scene scene(const Floats& means2d, const Floats& conics, const Floats& depths,
                   const Floats& extents, const Floats& opacities, const Floats& colors,
                   const Floats& background, bool with_depth, int width, int height) {
  const int64_t n = opacities.size(), channels = background.size();
  if (width < 1 || height < 1 || width > splat::kMaxSize || height > splat::kMaxSize) {
    throw std::invalid_argument("width and height must lie in [1, " +
                                std::to_string(splat::kMaxSize) + "]");
  }
  return {n,
          data_of(means2d, "means2d", 2 * n),
          data_of(conics, "conics", 3 * n),
          data_of(depths, "depths", n),
          data_of(extents, "extents", 2 * n),
          opacities.data(),
          data_of(colors, "colors", n * channels),
          background.data(),
          int(channels),
          with_depth,
          width,
          height};
}

void project(const Floats& means, const Floats& quats, const Floats& scales,
             const Floats& opacities, const Floats& viewmat, const Floats& K, int width,
             int height, float near_plane, float far_plane, float eps2d, int threads,
             Floats& means2d, Floats& conics, Floats& depths, Floats& extents) {
  const auto in = gaussians(means, quats, scales, opacities);
  const auto cam = camera(viewmat, K, width, height, near_plane, far_plane, eps2d);
  const splat::Projected out{data_of(means2d, "means2d", 2 * in.count),
                             data_of(conics, "conics", 3 * in.count),
                             data_of(depths, "depths", in.count),
                             data_of(extents, "extents", 2 * in.count)};
  py::gil_scoped_release release;
  splat::project(in, cam, thread_count(threads), out);
}

void project_backward(const Floats& means, const Floats& quats, const Floats& scales,
                      const Floats& opacities, const Floats& viewmat, const Floats& K, int width,
                      int height, float near_plane, float far_plane, float eps2d, int threads,
                      const Floats& extents, const Floats& grad_means2d,
                      const Floats& grad_conics, const Floats& grad_depths, Floats& grad_means,
                      Floats& grad_quats, Floats& grad_scales) {
  const auto in = gaussians(means, quats, scales, opacities);
  const auto cam = camera(viewmat, K, width, height, near_plane, far_plane, eps2d);
  const int64_t n = in.count;
  const float* e = data_of(extents, "extents", 2 * n);
  const float* g2d = data_of(grad_means2d, "grad_means2d", 2 * n);
  const float* gconics = data_of(grad_conics, "grad_conics", 3 * n);
  const float* gdepths = data_of(grad_depths, "grad_depths", n);
  float* gmeans = data_of(grad_means, "grad_means", 3 * n);
  float* gquats = data_of(grad_quats, "grad_quats", 4 * n);
  float* gscales = data_of(grad_scales, "grad_scales", 3 * n);
  py::gil_scoped_release release;
  splat::project_backward(in, cam, thread_count(threads), e, g2d, gconics, gdepths, gmeans,
                          gquats, gscales);
}

void draw(splat::Rasterizer& rasterizer, const Floats& means2d, const Floats& conics,
          const Floats& depths, const Floats& extents, const Floats& opacities,
          const Floats& colors, const Floats& background, bool with_depth, int width,
          int height, bool record, int threads, Floats& out_colors, Floats& out_alphas) {
  const auto in = scene(means2d, conics, depths, extents, opacities, colors, background,
                        with_depth, width, height);
  const int64_t pixels = int64_t(width) * height;
  const splat::FloatImage image{data_of(out_colors, "out_colors", pixels * in.total_channels()),
                                data_of(out_alphas, "out_alphas", pixels)};
  py::gil_scoped_release release;
  rasterizer.forward(in, image, record, thread_count(threads));
}

void draw_screen(splat::Rasterizer& rasterizer, const Floats& means2d, const Floats& conics,
                 const Floats& depths, const Floats& extents, const Floats& opacities,
                 const Floats& colors, const Floats& background, int width, int height,
                 int threads, Bytes& out_rgb, Floats& out_alphas, Floats& out_depths) {
  data_of(background, "background", 3);
  const auto in = scene(means2d, conics, depths, extents, opacities, colors, background, true,
                        width, height);
  const int64_t pixels = int64_t(width) * height;
  const splat::ScreenImage image{data_of(out_rgb, "out_rgb", 3 * pixels),
                                 data_of(out_alphas, "out_alphas", pixels),
                                 data_of(out_depths, "out_depths", pixels)};
  py::gil_scoped_release release;
  rasterizer.forward(in, image, thread_count(threads));
}

void draw_backward(splat::Rasterizer& rasterizer, const Floats& means2d, const Floats& conics,
                   const Floats& depths, const Floats& extents, const Floats& opacities,
                   const Floats& colors, const Floats& background, bool with_depth, int width,
                   int height, int threads, const Floats& grad_colors, const Floats& grad_alphas,
                   Floats& grad_means2d, Floats& grad_conics, Floats& grad_depths, Floats& grad_opacities,
                   Floats& grad_gaussian_colors) {
  const auto in = scene(means2d, conics, depths, extents, opacities, colors, background,
                        with_depth, width, height);
  const int64_t n = in.count, pixels = int64_t(width) * height;
  const splat::SceneGradients out{
      data_of(grad_means2d, "grad_means2d", 2 * n), data_of(grad_conics, "grad_conics", 3 * n),
      data_of(grad_depths, "grad_depths", n), data_of(grad_opacities, "grad_opacities", n),
      data_of(grad_gaussian_colors, "grad_gaussian_colors", n * in.channels)};
  const float* gcolors = data_of(grad_colors, "grad_colors", pixels * in.total_channels());
  const float* galphas = data_of(grad_alphas, "grad_alphas", pixels);
  py::gil_scoped_release release;
  rasterizer.backward(in, gcolors, galphas, thread_count(threads), out);
}

}  // namespace

PYBIND11_MODULE(VISA_MODULE, m) {
  using py::arg;
  m.doc() = "Gaussian splatting on the CPU; see visa_ros/rendering/splat_cpu.py.";
  m.def("cpu_has_v3", &visa_native::cpu_has_v3);
  m.def("project", &project, arg("means").noconvert(), arg("quats").noconvert(),
        arg("scales").noconvert(), arg("opacities").noconvert(), arg("viewmat").noconvert(),
        arg("K").noconvert(), arg("width"), arg("height"), arg("near_plane"), arg("far_plane"),
        arg("eps2d"), arg("threads"), arg("means2d").noconvert(), arg("conics").noconvert(),
        arg("depths").noconvert(), arg("extents").noconvert());
  m.def("project_backward", &project_backward, arg("means").noconvert(),
        arg("quats").noconvert(), arg("scales").noconvert(), arg("opacities").noconvert(),
        arg("viewmat").noconvert(), arg("K").noconvert(), arg("width"), arg("height"),
        arg("near_plane"), arg("far_plane"), arg("eps2d"), arg("threads"),
        arg("extents").noconvert(), arg("grad_means2d").noconvert(),
        arg("grad_conics").noconvert(), arg("grad_depths").noconvert(),
        arg("grad_means").noconvert(), arg("grad_quats").noconvert(),
        arg("grad_scales").noconvert());
  // Local to the module: a process may load both builds.
  py::class_<splat::Rasterizer>(m, "Rasterizer", py::module_local())
      .def(py::init<>())
      .def("draw", &draw, arg("means2d").noconvert(), arg("conics").noconvert(),
           arg("depths").noconvert(), arg("extents").noconvert(), arg("opacities").noconvert(),
           arg("colors").noconvert(), arg("background").noconvert(), arg("with_depth"),
           arg("width"), arg("height"), arg("record"), arg("threads"),
           arg("out_colors").noconvert(), arg("out_alphas").noconvert())
      .def("draw_screen", &draw_screen, arg("means2d").noconvert(), arg("conics").noconvert(),
           arg("depths").noconvert(), arg("extents").noconvert(), arg("opacities").noconvert(),
           arg("colors").noconvert(), arg("background").noconvert(), arg("width"),
           arg("height"), arg("threads"), arg("out_rgb").noconvert(),
           arg("out_alphas").noconvert(), arg("out_depths").noconvert())
      .def("draw_backward", &draw_backward, arg("means2d").noconvert(),
           arg("conics").noconvert(), arg("depths").noconvert(), arg("extents").noconvert(),
           arg("opacities").noconvert(), arg("colors").noconvert(),
           arg("background").noconvert(), arg("with_depth"), arg("width"), arg("height"),
           arg("threads"), arg("grad_colors").noconvert(), arg("grad_alphas").noconvert(),
           arg("grad_means2d").noconvert(), arg("grad_conics").noconvert(),
           arg("grad_depths").noconvert(), arg("grad_opacities").noconvert(),
           arg("grad_gaussian_colors").noconvert());
}
