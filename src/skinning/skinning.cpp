// Moves an avatar's Gaussians with a body: face blendshapes, then linear blend skinning of the
// means and of the orientations.  The caller is visa_ros/body/skinning.py, which checks indices.
//
// One thread on purpose: 60,000 Gaussians take it 1.2 ms.  A second one saved 0.5 ms on idle cores;
// with cores busy, as capture keeps them, waiting for it made the median 15 ms.
#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>
#include <vector>

#include "visa_native.hpp"

namespace py = pybind11;

namespace {

template <class T>
using Array = py::array_t<T, py::array::c_style>;

constexpr int kBones = 4;   // a Gaussian hangs on this many joints
constexpr int kRow = 16;    // a joint's 3x4 transform, row by row, then its rotation, wxyz
constexpr int kRotation = 12;
constexpr int kOffset = 4;  // a vertex' x, y, z and one float of padding

template <class T>
T* data_of(const Array<T>& array, const char* name, int64_t size) {
  if (array.size() != size) {
    throw std::invalid_argument(std::string(name) + " must hold " + std::to_string(size) +
                                " values, got " + std::to_string(array.size()));
  }
  return const_cast<T*>(array.data());
}

// offsets = sum of the sparse blendshapes times their values.
void blend(const Array<int32_t>& starts, const Array<int32_t>& vertices,
           const Array<float>& deltas, const Array<float>& values, Array<float>& offsets) {
  const int64_t shapes = values.size(), rows = vertices.size();
  const int32_t* start = data_of(starts, "starts", shapes + 1);
  const int32_t* vertex = vertices.data();
  const float* delta = data_of(deltas, "deltas", 3 * rows);
  const float* value = values.data();
  float* out = offsets.mutable_data();
  const int64_t size = offsets.size();
  py::gil_scoped_release release;
  std::fill_n(out, size, 0.f);
  for (int64_t shape = 0; shape < shapes; ++shape) {
    const float amount = value[shape];
    if (amount == 0.f) continue;
    for (int32_t row = start[shape]; row < start[shape + 1]; ++row) {
      float* o = out + kOffset * vertex[row];
      for (int axis = 0; axis < 3; ++axis) o[axis] += amount * delta[3 * row + axis];
    }
  }
}

// The unit quaternion (wxyz) of the rotation in a 3x4 transform, from its largest component
// (Shepperd 1978).
void quaternion(const float* t, float* q) {
  const float xx = t[0], yy = t[5], zz = t[10];
  const float squares[4] = {1 + xx + yy + zz, 1 + xx - yy - zz, 1 - xx + yy - zz,
                            1 - xx - yy + zz};  // 4 w^2, 4 x^2, 4 y^2, 4 z^2
  const float products[4][4] = {{0, t[9] - t[6], t[2] - t[8], t[4] - t[1]},
                                {0, 0, t[1] + t[4], t[2] + t[8]},
                                {0, 0, 0, t[6] + t[9]},
                                {0, 0, 0, 0}};  // 4 q_i q_j
  const int64_t top = std::max_element(squares, squares + 4) - squares;
  const float root = std::sqrt(squares[top]);
  for (int64_t i = 0; i < 4; ++i) {
    q[i] = i == top ? root / 2 : products[std::min(i, top)][std::max(i, top)] / (2 * root);
  }
}

// One Gaussian.  The blended rotation is the normalised weighted sum of the joints' quaternions,
// each taken in the half-space of the heaviest joint's (linear quaternion blending, Kavan et al.
// 2008): next to the rotation of the blended matrix it costs no polar decomposition.
inline void move(const float* mean, const float* quat, const int32_t* corner, const float* share,
                 const uint8_t* joint, const float* weight, const float* offsets,
                 const float* rows, float* out_mean, float* out_quat) {
  float x[3];
  for (int axis = 0; axis < 3; ++axis) {
    x[axis] = mean[axis] + share[0] * offsets[kOffset * corner[0] + axis] +
              share[1] * offsets[kOffset * corner[1] + axis] +
              share[2] * offsets[kOffset * corner[2] + axis];
  }
  const float* first = rows + kRow * joint[0];
  float m[kRow];
#pragma omp simd
  for (int i = 0; i < kRow; ++i) m[i] = weight[0] * first[i];
  for (int bone = 1; bone < kBones; ++bone) {
    if (weight[bone] == 0.f) break;
    const float* row = rows + kRow * joint[bone];
    float agree = 0.f;
    for (int i = kRotation; i < kRow; ++i) agree += first[i] * row[i];
    const float turned = std::copysign(weight[bone], agree);
#pragma omp simd
    for (int i = 0; i < kRotation; ++i) m[i] += weight[bone] * row[i];
    for (int i = kRotation; i < kRow; ++i) m[i] += turned * row[i];
  }
  for (int axis = 0; axis < 3; ++axis) {
    const float* r = m + 4 * axis;
    out_mean[axis] = r[0] * x[0] + r[1] * x[1] + r[2] * x[2] + r[3];
  }
  float* b = m + kRotation;
  const float scale = 1.f / std::sqrt(b[0] * b[0] + b[1] * b[1] + b[2] * b[2] + b[3] * b[3]);
  for (int i = 0; i < 4; ++i) b[i] *= scale;
  const float* q = quat;
  out_quat[0] = b[0] * q[0] - b[1] * q[1] - b[2] * q[2] - b[3] * q[3];
  out_quat[1] = b[0] * q[1] + b[1] * q[0] + b[2] * q[3] - b[3] * q[2];
  out_quat[2] = b[0] * q[2] - b[1] * q[3] + b[2] * q[0] + b[3] * q[1];
  out_quat[3] = b[0] * q[3] + b[1] * q[2] - b[2] * q[1] + b[3] * q[0];
}

void skin(const Array<float>& means, const Array<float>& quats, const Array<int32_t>& corners,
          const Array<float>& barycentrics, const Array<uint8_t>& joints,
          const Array<float>& weights, const Array<float>& offsets, const Array<float>& transforms,
          Array<float>& out_means, Array<float>& out_quats) {
  const int64_t n = means.size() / 3;
  const float* mean = data_of(means, "means", 3 * n);
  const float* quat = data_of(quats, "quats", 4 * n);
  const int32_t* corner = data_of(corners, "corners", 3 * n);
  const float* share = data_of(barycentrics, "barycentrics", 3 * n);
  const uint8_t* joint = data_of(joints, "joints", kBones * n);
  const float* weight = data_of(weights, "weights", kBones * n);
  const float* offset = offsets.data();
  const int64_t joint_count = transforms.size() / kRotation;
  std::vector<float> rows(kRow * joint_count);
  for (int64_t j = 0; j < joint_count; ++j) {
    const float* transform = transforms.data() + kRotation * j;
    std::copy_n(transform, kRotation, &rows[kRow * j]);
    quaternion(transform, &rows[kRow * j + kRotation]);
  }
  float* out_mean = data_of(out_means, "out_means", 3 * n);
  float* out_quat = data_of(out_quats, "out_quats", 4 * n);
  py::gil_scoped_release release;
  for (int64_t i = 0; i < n; ++i) {
    move(mean + 3 * i, quat + 4 * i, corner + 3 * i, share + 3 * i, joint + kBones * i,
         weight + kBones * i, offset, rows.data(), out_mean + 3 * i, out_quat + 4 * i);
  }
}

// What has become of surfaces since a portrait; see visa_ros/rendering/turning.py.  Writes the last
// kTurning of each Gaussian's channels.
constexpr int kTurning = 7;

void turn(const Array<float>& quats, const Array<uint8_t>& axes, const Array<float>& signs,
          const Array<float>& portrait, const Array<float>& light, const Array<float>& hidden,
          float whole_change, Array<float>& out) {
  const int64_t n = quats.size() / 4;
  const float* quat = data_of(quats, "quats", 4 * n);
  const uint8_t* axis = data_of(axes, "axes", n);
  const float* sign = data_of(signs, "signs", n);
  const float* seen = data_of(portrait, "portrait", 3 * n);
  const float* lit = data_of(light, "light", 3 * n);
  const float* is_hidden = data_of(hidden, "hidden", n);
  const int64_t channels = n ? out.size() / n : kTurning;
  if (out.size() != n * channels || channels < kTurning) {
    throw std::invalid_argument("out must hold at least 7 values for each Gaussian");
  }
  float* row = out.mutable_data() + channels - kTurning;
  py::gil_scoped_release release;
  for (int64_t i = 0; i < n; ++i, row += channels) {
    const float* q = quat + 4 * i;
    // The column of the rotation matrix that belongs to the axis: others follow cyclically.
    const int a = axis[i], b = (a + 1) % 3, c = (a + 2) % 3;
    const float w = q[0], x = q[1 + a], y = q[1 + b], z = q[1 + c];
    float normal[3];
    normal[a] = sign[i] * (1.f - 2.f * (y * y + z * z));
    normal[b] = sign[i] * 2.f * (x * y + w * z);
    normal[c] = sign[i] * 2.f * (x * z - w * y);
    float squared = 0.f;
    for (int k = 0; k < 3; ++k) {
      const float change = normal[k] - seen[3 * i + k];
      squared += change * change;
      row[1 + k] = lit[3 * i + k];
      row[4 + k] = normal[k] - lit[3 * i + k];
    }
    row[0] = std::min(1.f, std::sqrt(squared) / whole_change + is_hidden[i]);
  }
}

}  // namespace

PYBIND11_MODULE(VISA_MODULE, m) {
  m.def("cpu_has_v3", &visa_native::cpu_has_v3);
  m.def("blend", &blend, py::arg("starts"), py::arg("vertices"), py::arg("deltas"),
        py::arg("values"), py::arg("offsets").noconvert());
  m.def("skin", &skin, py::arg("means"), py::arg("quats"), py::arg("corners"),
        py::arg("barycentrics"), py::arg("joints"), py::arg("weights"), py::arg("offsets"),
        py::arg("transforms"), py::arg("out_means").noconvert(), py::arg("out_quats").noconvert());
  m.def("turn", &turn, py::arg("quats"), py::arg("axes"), py::arg("signs"), py::arg("portrait"),
        py::arg("light"), py::arg("hidden"), py::arg("whole_change"),
        py::arg("out").noconvert());
}
