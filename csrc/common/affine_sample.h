// What calls of affine_sample and affine_sample_grad must look like, and what lies outside an
// image, for every backend. See kernels.def.
#pragma once

#include "common/host_device.h"
#include "common/tensors.h"

namespace dl::DL_LEVEL {

enum Fill : int64_t { kConstant, kNearest, kReflect, kWrap, kMirror, kFills };

constexpr int64_t kMostPixels = 1 << 15;

DL_HOST_DEVICE inline int64_t modulo(int64_t i, int64_t n) {
  const int64_t r = i % n;
  return r < 0 ? r + n : r;
}

// Where pixel i of an axis of n lies; -1 is the fill value.
DL_HOST_DEVICE inline int64_t place(int64_t i, int64_t n, int64_t mode) {
  if (static_cast<uint64_t>(i) < static_cast<uint64_t>(n)) return i;
  switch (mode) {
    case kNearest:
      return i < 0 ? 0 : n - 1;
    case kWrap:
      return modulo(i, n);
    case kReflect: {
      const int64_t k = modulo(i, 2 * n);
      return k < n ? k : 2 * n - 1 - k;
    }
    case kMirror: {
      if (n == 1) return 0;
      const int64_t k = modulo(i, 2 * n - 2);
      return k < n ? k : 2 * n - 2 - k;
    }
    default:
      return -1;
  }
}

// Both kernels: images, images and a matrix for each.
inline const char* check_sampling(const Call& call) {
  if (call.n_tensors != 3 || call.n_ints != 2 || call.n_floats != 1)
    return "affine_sample: expected two batches of images, matrices, [interpolation, mode], [fill]";
  const Tensor &a = call.tensors[0], &b = call.tensors[1], &m = call.tensors[2];
  if (a.rank != 4 || b.rank != 4 || m.rank != 2 || m.shape[1] != 6)
    return "affine_sample: expected images (N, H, W, C) and matrices (N, 6)";
  if (!is_float_or_half(a.dtype) || b.dtype != a.dtype || m.dtype != compute_type(a.dtype))
    return "affine_sample: expected float32 or float64 everywhere";
  if (a.shape[0] != b.shape[0] || m.shape[0] != a.shape[0] || a.shape[3] != b.shape[3])
    return "affine_sample: expected as many images, matrices and channels everywhere";
  for (int axis = 1; axis < 3; ++axis) {
    if (a.shape[axis] > kMostPixels || b.shape[axis] > kMostPixels)
      return "affine_sample: expected images of at most 32768 pixels a side";
  }
  if (call.ints[0] < 0 || call.ints[0] > 1 || call.ints[1] < 0 || call.ints[1] >= kFills)
    return "affine_sample: expected interpolation 0..1 and mode 0..4";
  return nullptr;
}

// Each: nullptr or a sentence. Shapes and types only; pointers may be null.
inline const char* check_affine_sample(const Call& call) {
  if (const char* wrong = check_sampling(call)) return wrong;
  const Tensor &y = call.tensors[0], &x = call.tensors[1];
  if ((x.shape[1] == 0 || x.shape[2] == 0) && count(y, 0, 4) > 0)
    return "affine_sample: expected images of at least one pixel";
  return nullptr;
}

inline const char* check_affine_sample_grad(const Call& call) {
  if (const char* wrong = check_sampling(call)) return wrong;
  const Tensor &dx = call.tensors[0], &dy = call.tensors[1];
  if ((dx.shape[1] == 0 || dx.shape[2] == 0) && count(dy, 0, 4) > 0)
    return "affine_sample_grad: expected images of at least one pixel";
  return nullptr;
}

}  // namespace dl::DL_LEVEL
