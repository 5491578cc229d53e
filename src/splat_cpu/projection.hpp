// EWA projection of 3D Gaussians to ellipses in the image, and its gradient.
#pragma once

#include <cstdint>

namespace splat {

// A pinhole camera and the depths that it sees.
struct Camera {
  float view[12];  // world to camera, the upper 3 x 4 of the matrix, row-major
  float fx, fy, cx, cy;
  int width, height;
  float near_plane, far_plane;
  float eps2d;  // added to the diagonal of every projected covariance, px^2
};

// N Gaussians; quaternions are wxyz of any length.
struct Gaussians {
  int64_t count;
  const float *means, *quats, *scales, *opacities;  // (N, 3), (N, 4), (N, 3), (N,)
};

// Their ellipses in the image.
struct Projected {
  float* means2d;  // (N, 2), px
  float* conics;   // (N, 3), the inverse covariance's xx, xy, yy, px^-2
  float* depths;   // (N,), along the camera's z
  float* extents;  // (N, 2), half sizes of the box in which alpha >= 1/255, px; 0 where unseen
};

// Equations 24-31 of Zwicker et al., "EWA splatting", 2002, as gsplat 1.5.3 computes them: the
// point where the perspective is linearised is clamped to 1.3 times the field of view, and the
// extents follow the opacity (section B.2 of arXiv 2402.00525).  A Gaussian that is outside the
// image or the depth range, transparent, or not finite gets extents of 0.
void project(const Gaussians&, const Camera&, int threads, const Projected& out);

// Turns gradients of means2d, conics and depths into those of means, quats and scales; rows
// with extents of 0 get 0.
void project_backward(const Gaussians&, const Camera&, int threads, const float* extents,
                      const float* grad_means2d, const float* grad_conics,
                      const float* grad_depths, float* grad_means, float* grad_quats,
                      float* grad_scales);

}  // namespace splat
