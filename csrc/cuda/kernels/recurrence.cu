// A recurrence over T steps (common/recurrence.h): for each step and stage, a product of gemm.cu
// into scratch, then its expression by pointwise.cu. Inside a recorded graph a launch costs a
// microsecond or two, about what a barrier across the whole GPU would.
#include "cuda/gemm.cuh"
#include "cuda/precision.h"

#include "common/recurrence.h"

namespace dl::cuda {

const char* plan_gemm(const Call&, Work&);
cudaError_t launch_gemm(const Call&, cudaStream_t);
cudaError_t launch_pointwise(const Call&, cudaStream_t);

namespace {

int64_t widest_product(const Recurrence& r) {
  int64_t widest = 0;
  for (int i = 0; i < r.n_stages; ++i) widest = max(widest, r.stages[i].n);
  return widest;
}

Tensor matrix(char* data, DType dtype, int64_t rows, int64_t cols, int64_t row, int64_t col) {
  Tensor t{data, dtype, 2, {rows, cols}, {row, col}};
  return t;
}

struct Runner {
  const Call& call;
  const Recurrence& r;
  bool tf32;
  cudaStream_t stream;

  DType dtype() const { return call.tensors[0].dtype; }

  // `width` columns of slice v.slice at step t + v.shift, repeated where the sequence is.
  Tensor view(const Value& v, int64_t t, int64_t width) const {
    const Tensor& x = call.tensors[v.tensor];
    const int64_t time = x.shape[0] == 1 && r.steps != 1 ? 0 : t + v.shift;
    const int64_t at = time * x.stride[0] + v.slice * r.width * x.stride[2];
    return matrix(x.data + at * size_of(x.dtype), x.dtype, r.rows, width,
                  x.shape[1] == 1 ? 0 : x.stride[1], x.shape[2] == 1 ? 0 : x.stride[2]);
  }

  // Histories hold one row of states more than there are steps.
  cudaError_t start() const {
    const int64_t wide = dtype() == DType::f64;
    const int64_t copy[] = {wide, 1, 1, 0, 0, 0, 0}, zeros[] = {wide, 1, 0, 1, 0, 0, 0};
    const double zero = 0;
    for (int h = 0; h < r.n_histories; ++h) {
      const bool given = r.first[h] >= 0;
      Tensor t[2] = {view({h, 0, 0}, r.backwards ? r.steps : 0, r.width), {}};
      if (given) t[1] = call.tensors[r.first[h]];
      const Call fill{t, given ? 2 : 1, given ? copy : zeros, 7, &zero, given ? 0 : 1, nullptr};
      if (const cudaError_t error = launch_pointwise(fill, stream)) return error;
    }
    return cudaSuccess;
  }

  cudaError_t product(const Stage& s, int64_t t) const {
    const Tensor& m = call.tensors[s.m];
    const int row = s.transposed ? 1 : 0;
    const Tensor tensors[3] = {matrix(call.shared, dtype(), r.rows, s.n, s.n, 1),
                               view({s.a, s.shift, s.slice}, t, s.k),
                               matrix(m.data, m.dtype, s.k, s.n, m.stride[row], m.stride[1 - row])};
    GemmPlan plan;
    Work work;
    const Call gemm{tensors, 3, nullptr, 0, nullptr, 0, nullptr, &plan};
    if (plan_gemm(gemm, work)) return cudaErrorInvalidValue;
    plan.tf32 = tf32;
    return launch_gemm(gemm, stream);
  }

  cudaError_t pointwise(const Stage& s, int64_t t) const {
    Tensor tensors[kMaxValues + kMaxOutputs];
    for (int i = 0; i < s.n_out; ++i) tensors[i] = view(s.out[i], t, r.width);
    for (int i = 0; i < s.n_in; ++i) {
      const Value& v = s.in[i];
      tensors[s.n_out + i] = v.tensor >= 0
                                 ? view(v, t, r.width)
                                 : matrix(call.shared + v.slice * r.width * size_of(dtype()),
                                          dtype(), r.rows, r.width, s.n, 1);
    }
    const Call e{tensors, s.n_out + s.n_in, s.ints, s.n_ints, s.floats, s.n_floats, nullptr};
    return launch_pointwise(e, stream);
  }

  cudaError_t run() const {
    if (const cudaError_t error = start()) return error;
    for (int64_t step = 0; step < r.steps; ++step) {
      const int64_t t = r.backwards ? r.steps - 1 - step : step;
      for (int i = 0; i < r.n_stages; ++i) {
        const Stage& s = r.stages[i];
        if (s.k > 0) {
          if (const cudaError_t error = product(s, t)) return error;
        }
        if (const cudaError_t error = pointwise(s, t)) return error;
      }
    }
    return cudaSuccess;
  }
};

}  // namespace

const char* plan_recurrence(const Call& call, Work& work) {
  if (call.n_tensors < 1) return kMalformed;
  Recurrence r{};
  if (const char* wrong = read_recurrence(call, r)) return wrong;
  const int64_t size = size_of(call.tensors[0].dtype);
  work.outputs = static_cast<int>(call.ints[3]);
  work.shared_bytes = r.rows * widest_product(r) * size;
  work.prepared_bytes = sizeof(bool);
  const bool tf32 = tf32_products && call.tensors[0].dtype == DType::f32;
  if (call.prepared) *static_cast<bool*>(call.prepared) = tf32;
  double each = 0, read = 0;
  for (int i = 0; i < r.n_stages; ++i) {
    const Stage& s = r.stages[i];
    DeviceExpression d;
    Expression e;
    if (const char* wrong = encode(s.ints, s.n_ints, s.floats, s.n_floats, e, d)) return wrong;
    each += 2.0 * static_cast<double>(s.k) * static_cast<double>(s.n) +
            cost(s.expression) * static_cast<double>(r.width);
    read += static_cast<double>(s.n_in + s.n_out) * static_cast<double>(r.width);
  }
  const double uses = static_cast<double>(r.steps) * static_cast<double>(r.rows);
  work.flops = uses * each;
  work.bytes = uses * read * static_cast<double>(size);
  return nullptr;
}

cudaError_t launch_recurrence(const Call& call, cudaStream_t stream) {
  Recurrence r{};
  if (read_recurrence(call, r)) return cudaErrorInvalidValue;
  if (r.rows == 0) return cudaSuccess;
  const bool tf32 = call.prepared && *static_cast<const bool*>(call.prepared);
  return Runner{call, r, tf32, stream}.run();
}

}  // namespace dl::cuda
