// Blends projected Gaussians front to back, tile by tile, and differentiates that.
#pragma once

#include <cstdint>
#include <vector>

namespace splat {

// Wider or higher pictures would overflow Splat's block numbers, px.
constexpr int kMaxSize = 16384;

// N projected Gaussians and the image that they are drawn to.
struct Scene {
  int64_t count;
  const float *means2d, *conics, *depths, *extents;  // as in Projected
  const float *opacities, *colors;                   // (N,), (N, channels)
  const float* background;                           // (channels,)
  int channels;
  bool with_depth;  // append the depth as a last channel, over a background of 0
  int width, height;

  int total_channels() const { return channels + with_depth; }
};

// Where to draw.  Either floats ...
struct FloatImage {
  float *colors, *alphas;  // (H, W, total_channels), (H, W)
};

// ... or what a screen shows, of a scene with 3 channels and depth.
struct ScreenImage {
  uint8_t* rgb;            // (H, W, 3)
  float *alphas, *depths;  // (H, W) each; depth is the mean along the ray, 0 where alpha is 0
};

struct SceneGradients {
  float *means2d, *conics, *depths, *opacities, *colors;  // all N rows, zeroed by the caller
};

// One projected Gaussian, ready to be evaluated at (dx, dy) from its centre:
// log2(alpha) = log_opacity + (xx dx + xy dy) dx + yy dy^2.
struct Splat {
  float u, v, xx, xy, yy, log_opacity;
  int16_t left, right, top, bottom;  // blocks of pixels that it may touch, inclusive
};
static_assert(sizeof(Splat) == 32);

// Owns every buffer; they keep their size, so drawing alike scenes again allocates nothing.
class Rasterizer {
 public:
  // Draws.  With `record`, keeps what `backward` needs until the next call.  Throws
  // std::length_error if the Gaussians touch more than 2^31 tiles in all.
  void forward(const Scene&, const FloatImage&, bool record, int threads);
  void forward(const Scene&, const ScreenImage&, int threads);

  // Gradients of the recorded call, whose scene must be unchanged.
  void backward(const Scene&, const float* grad_colors, const float* grad_alphas, int threads,
                const SceneGradients&);

 private:
  struct Key {
    uint32_t depth, id;
  };

  void sort_by_depth(const Scene&, int threads);
  void bin(const Scene&, bool record, int threads);
  template <bool Record>
  void draw_floats(const Scene&, const FloatImage&, int threads);
  template <int Channels, bool Record, class Image>
  void draw(const Scene&, const Image&, int threads);
  template <int Channels>
  void differentiate(const Scene&, const float* grad_colors, const float* grad_alphas,
                     int threads);

  int tiles_x_ = 0, tiles_y_ = 0;
  std::vector<Key> keys_, spare_keys_;  // seen Gaussians, front to back after sort_by_depth
  std::vector<uint32_t> counts_;        // of the counting sorts, one row a thread
  std::vector<Splat> splats_;           // front to back
  std::vector<float> colors_;           // ... their channels, depth included
  std::vector<uint32_t> tile_begin_;    // where each tile's part of tile_splats_ begins
  std::vector<uint32_t> tile_splats_;   // indices into splats_, front to back in each tile

  // For backward.
  std::vector<uint32_t> slot_begin_, slots_;  // where each splat is in tile_splats_
  std::vector<float> transmittance_;          // of each pixel, tile by tile
  std::vector<int32_t> last_;                 // last entry of tile_splats_ in each pixel, or -1
  std::vector<float> slot_gradients_;         // one row for each entry of tile_splats_
};

}  // namespace splat
