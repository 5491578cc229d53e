#include "projection.hpp"

#include <algorithm>
#include <cmath>

#include "simd.hpp"
#include "workers.hpp"

namespace splat {
namespace {

constexpr float kAlphaMin = 1.f / 255.f;
// Wider ellipses than this are numerically void and are left out, px.
constexpr float kExtentMax = 1e7f;

// Column `column` of kLanes rows of an (N, Columns) array; rows beyond the last repeat it.
template <int Columns>
SPLAT_INLINE Float gather(const float* array, int64_t first, int64_t count, int column) {
  Float a;
  for (int i = 0; i < kLanes; ++i) {
    a[i] = array[std::min(first + i, count - 1) * Columns + column];
  }
  return a;
}

template <int Columns>
SPLAT_INLINE void scatter(float* array, int64_t first, int64_t count, int column, Float a) {
  const int lanes = int(std::min<int64_t>(kLanes, count - first));
  for (int i = 0; i < lanes; ++i) array[(first + i) * Columns + column] = a[i];
}

// Calls body(first) for every first row of kLanes rows.
template <class Body>
void for_each_vector(int64_t count, int threads, Body body) {
  constexpr int64_t kRows = 4096;  // a call of some 50 microseconds
  parallel_for(int((count + kRows - 1) / kRows), threads, [&](int chunk) {
    const int64_t end = std::min(count, (chunk + 1) * kRows);
    for (int64_t first = chunk * kRows; first < end; first += kLanes) body(first);
  });
}

struct Vec3 {
  Float x, y, z;
};

// What the forward and the backward pass both need of kLanes Gaussians.
struct Ellipse {
  Vec3 point;               // mean in camera axes
  Float inverse_z;
  Float slope_x, slope_y;   // x/z and y/z, clamped
  Int free_x, free_y;       // where the clamp did nothing
  Float j00, j02, j11, j12; // Jacobian of the projection; its other entries are 0
  Float qw, qx, qy, qz, inverse_norm;
  Float R[3][3];            // of the quaternion
  Float scale[3];
  Vec3 axes[3];             // scaled principal axes in camera axes
  Float px[3], py[3];       // ... in the image
  Float xx, xy, yy;         // covariance in the image, px^2

  SPLAT_INLINE Ellipse(const Gaussians& in, const Camera& camera, int64_t first) {
    const float* V = camera.view;
    const Float mx = gather<3>(in.means, first, in.count, 0);
    const Float my = gather<3>(in.means, first, in.count, 1);
    const Float mz = gather<3>(in.means, first, in.count, 2);
    point = {V[0] * mx + V[1] * my + V[2] * mz + V[3],
             V[4] * mx + V[5] * my + V[6] * mz + V[7],
             V[8] * mx + V[9] * my + V[10] * mz + V[11]};
    inverse_z = 1.f / point.z;

    const float margin_x = 0.15f * camera.width / camera.fx;
    const float margin_y = 0.15f * camera.height / camera.fy;
    const Float sx = point.x * inverse_z, sy = point.y * inverse_z;
    slope_x = min(max(sx, broadcast(-camera.cx / camera.fx - margin_x)),
                  broadcast((camera.width - camera.cx) / camera.fx + margin_x));
    slope_y = min(max(sy, broadcast(-camera.cy / camera.fy - margin_y)),
                  broadcast((camera.height - camera.cy) / camera.fy + margin_y));
    free_x = slope_x == sx;
    free_y = slope_y == sy;
    j00 = camera.fx * inverse_z;
    j02 = -camera.fx * slope_x * inverse_z;
    j11 = camera.fy * inverse_z;
    j12 = -camera.fy * slope_y * inverse_z;

    qw = gather<4>(in.quats, first, in.count, 0);
    qx = gather<4>(in.quats, first, in.count, 1);
    qy = gather<4>(in.quats, first, in.count, 2);
    qz = gather<4>(in.quats, first, in.count, 3);
    inverse_norm = 1.f / sqrt(qw * qw + qx * qx + qy * qy + qz * qz);
    qw *= inverse_norm, qx *= inverse_norm, qy *= inverse_norm, qz *= inverse_norm;
    R[0][0] = 1.f - 2.f * (qy * qy + qz * qz);
    R[0][1] = 2.f * (qx * qy - qw * qz);
    R[0][2] = 2.f * (qx * qz + qw * qy);
    R[1][0] = 2.f * (qx * qy + qw * qz);
    R[1][1] = 1.f - 2.f * (qx * qx + qz * qz);
    R[1][2] = 2.f * (qy * qz - qw * qx);
    R[2][0] = 2.f * (qx * qz - qw * qy);
    R[2][1] = 2.f * (qy * qz + qw * qx);
    R[2][2] = 1.f - 2.f * (qx * qx + qy * qy);

    xx = yy = broadcast(camera.eps2d);
    xy = Float{};
    for (int k = 0; k < 3; ++k) {
      scale[k] = gather<3>(in.scales, first, in.count, k);
      const Float x = R[0][k] * scale[k], y = R[1][k] * scale[k], z = R[2][k] * scale[k];
      axes[k] = {V[0] * x + V[1] * y + V[2] * z, V[4] * x + V[5] * y + V[6] * z,
                 V[8] * x + V[9] * y + V[10] * z};
      px[k] = j00 * axes[k].x + j02 * axes[k].z;
      py[k] = j11 * axes[k].y + j12 * axes[k].z;
      xx += px[k] * px[k];
      xy += px[k] * py[k];
      yy += py[k] * py[k];
    }
  }
};

}  // namespace

void project(const Gaussians& in, const Camera& camera, int threads, const Projected& out) {
  const int64_t count = in.count;
  for_each_vector(count, threads, [&](int64_t first) {
    const Ellipse e(in, camera, first);
    const Float determinant = e.xx * e.yy - e.xy * e.xy;
    const Float u = camera.fx * e.point.x * e.inverse_z + camera.cx;
    const Float v = camera.fy * e.point.y * e.inverse_z + camera.cy;

    // exp(-sigma) * opacity = 1/255 on the ellipse of `reach` standard deviations.
    const Float opacity = gather<1>(in.opacities, first, count, 0);
    Float reach;
    for (int i = 0; i < kLanes; ++i) {
      reach[i] = opacity[i] >= kAlphaMin
                     ? std::min(3.33f, std::sqrt(2.f * std::log(opacity[i] / kAlphaMin)))
                     : 0.f;
    }
    Float half_width = reach * sqrt(e.xx), half_height = reach * sqrt(e.yy);

    // Every comparison is false for NaN, so what is not finite is unseen.
    const Int seen = (e.point.z >= camera.near_plane) & (e.point.z <= camera.far_plane) &
                     (determinant > 0.f) & (reach > 0.f) & (half_width < kExtentMax) &
                     (half_height < kExtentMax) & (u + half_width > 0.f) &
                     (u - half_width < float(camera.width)) & (v + half_height > 0.f) &
                     (v - half_height < float(camera.height));
    const Float inverse = 1.f / determinant;
    scatter<2>(out.means2d, first, count, 0, keep(seen, u));
    scatter<2>(out.means2d, first, count, 1, keep(seen, v));
    scatter<3>(out.conics, first, count, 0, keep(seen, e.yy * inverse));
    scatter<3>(out.conics, first, count, 1, keep(seen, -e.xy * inverse));
    scatter<3>(out.conics, first, count, 2, keep(seen, e.xx * inverse));
    scatter<1>(out.depths, first, count, 0, keep(seen, e.point.z));
    scatter<2>(out.extents, first, count, 0, keep(seen, half_width));
    scatter<2>(out.extents, first, count, 1, keep(seen, half_height));
  });
}

void project_backward(const Gaussians& in, const Camera& camera, int threads,
                      const float* extents, const float* grad_means2d, const float* grad_conics,
                      const float* grad_depths, float* grad_means, float* grad_quats,
                      float* grad_scales) {
  const int64_t count = in.count;
  const float* V = camera.view;
  for_each_vector(count, threads, [&](int64_t first) {
    const Ellipse e(in, camera, first);
    const Int seen = gather<2>(extents, first, count, 0) > 0.f;

    // Conic Q = C^-1, so dL/dC = -Q (dL/dQ) Q with the symmetric dL/dQ.
    const Float inverse = 1.f / (e.xx * e.yy - e.xy * e.xy);
    const Float q0 = e.yy * inverse, q1 = -e.xy * inverse, q2 = e.xx * inverse;
    const Float g0 = gather<3>(grad_conics, first, count, 0);
    const Float g1 = gather<3>(grad_conics, first, count, 1) * 0.5f;
    const Float g2 = gather<3>(grad_conics, first, count, 2);
    const Float a = q0 * g0 + q1 * g1, b = q0 * g1 + q1 * g2;
    const Float c = q1 * g0 + q2 * g1, d = q1 * g1 + q2 * g2;
    const Float gxx = -(a * q0 + b * q1), gxy = -(a * q1 + b * q2), gyy = -(c * q1 + d * q2);

    // C = eps2d I + sum_k p_k p_k^T with p_k = J axis_k.
    Float gj00{}, gj02{}, gj11{}, gj12{}, gR[3][3];
    for (int k = 0; k < 3; ++k) {
      const Float gpx = 2.f * (gxx * e.px[k] + gxy * e.py[k]);
      const Float gpy = 2.f * (gxy * e.px[k] + gyy * e.py[k]);
      gj00 += gpx * e.axes[k].x;
      gj02 += gpx * e.axes[k].z;
      gj11 += gpy * e.axes[k].y;
      gj12 += gpy * e.axes[k].z;
      const Float x = e.j00 * gpx, y = e.j11 * gpy, z = e.j02 * gpx + e.j12 * gpy;
      const Float world[3] = {V[0] * x + V[4] * y + V[8] * z, V[1] * x + V[5] * y + V[9] * z,
                              V[2] * x + V[6] * y + V[10] * z};
      Float gscale{};
      for (int row = 0; row < 3; ++row) {
        gscale += e.R[row][k] * world[row];
        gR[row][k] = e.scale[k] * world[row];
      }
      scatter<3>(grad_scales, first, count, k, keep(seen, gscale));
    }

    const Float gw = 2.f * (e.qx * (gR[2][1] - gR[1][2]) + e.qy * (gR[0][2] - gR[2][0]) +
                            e.qz * (gR[1][0] - gR[0][1]));
    const Float gx = 2.f * (e.qy * (gR[0][1] + gR[1][0]) + e.qz * (gR[0][2] + gR[2][0]) +
                            e.qw * (gR[2][1] - gR[1][2]) - 2.f * e.qx * (gR[1][1] + gR[2][2]));
    const Float gy = 2.f * (e.qx * (gR[0][1] + gR[1][0]) + e.qz * (gR[1][2] + gR[2][1]) +
                            e.qw * (gR[0][2] - gR[2][0]) - 2.f * e.qy * (gR[0][0] + gR[2][2]));
    const Float gz = 2.f * (e.qx * (gR[0][2] + gR[2][0]) + e.qy * (gR[1][2] + gR[2][1]) +
                            e.qw * (gR[1][0] - gR[0][1]) - 2.f * e.qz * (gR[0][0] + gR[1][1]));
    const Float along = e.qw * gw + e.qx * gx + e.qy * gy + e.qz * gz;
    const Float norm = e.inverse_norm;
    scatter<4>(grad_quats, first, count, 0, keep(seen, (gw - along * e.qw) * norm));
    scatter<4>(grad_quats, first, count, 1, keep(seen, (gx - along * e.qx) * norm));
    scatter<4>(grad_quats, first, count, 2, keep(seen, (gy - along * e.qy) * norm));
    scatter<4>(grad_quats, first, count, 3, keep(seen, (gz - along * e.qz) * norm));

    // Through the mean: u = fx x/z + cx, and the Jacobian's own dependence on x/z and 1/z.
    const Float gu = gather<2>(grad_means2d, first, count, 0) * camera.fx;
    const Float gv = gather<2>(grad_means2d, first, count, 1) * camera.fy;
    const Float iz = e.inverse_z;
    const Float gsx = gu - keep(e.free_x, camera.fx * iz * gj02);
    const Float gsy = gv - keep(e.free_y, camera.fy * iz * gj12);
    const Float giz = camera.fx * (gj00 - e.slope_x * gj02) +
                      camera.fy * (gj11 - e.slope_y * gj12) + e.point.x * gsx + e.point.y * gsy;
    const Float x = gsx * iz, y = gsy * iz;
    const Float z = gather<1>(grad_depths, first, count, 0) - giz * iz * iz;
    for (int k = 0; k < 3; ++k) {
      scatter<3>(grad_means, first, count, k, keep(seen, V[k] * x + V[4 + k] * y + V[8 + k] * z));
    }
  });
}

}  // namespace splat
