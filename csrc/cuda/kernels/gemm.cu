// out... = f(a @ b, extra inputs...), batched, with any strides. Halves, and floats where tf32 is
// asked for, go through tensor cores (gemm_tensor.cu); what follows is float32 and float64.
//
// Each block makes one tile (tile.cuh) of one matrix of the batch: 128 x 128 where there are enough
// of these to fill a large GPU and 16-byte loads are possible, else 64 x 64 or 32 x 32. Blocks that
// run together are 8 tiles high, so that they share what they read in L2.
//
// A product whose left side lies transposed is a sum over a batch, the gradient of weights: where
// it has few tiles it is cut along k too, and partial sums are added in order. No other is, so that
// a row of a batch has the bits of that row alone.
#include "cuda/gemm.cuh"
#include "cuda/precision.h"

#include <cstring>

#include "common/gemm.h"

namespace dl::cuda {

namespace {

template <class C, Form kA, Form kB>
__global__ void __launch_bounds__(C::kThreads)
    gemm(const __grid_constant__ Gemm g, const __grid_constant__ Results r) {
  using T = typename C::Type;
  DL_SHARED(T, shared);
  const TilePlace p = place_of(g, blockIdx.x);
  const int64_t row = int64_t{p.row} * C::kRows, col = int64_t{p.col} * C::kCols;
  const int64_t k = p.part * g.part_k;
  MatrixLoader<C, C::kRows, kA> a(g.a, p.a_offset, row, k);
  MatrixLoader<C, C::kCols, kB> b(g.b, p.b_offset, col, k);
  T sum[C::kHeight][C::kWidth];
  clear<C>(sum);
  multiply<C>(a, b, min(g.part_k, g.k - k), shared, sum);
  store_tile<C>(r, sum, span_of<C>(g, p), shared);
}

// ---- on the host ----

// Leading axes over which b is constant are more rows of a, where a's strides continue; the others
// are the batch.
const char* read_axes(const Call& call, const Tensor& a, const Tensor& b, GemmPlan& p) {
  Gemm& g = p.g;
  const Tensor& out = call.tensors[0];
  int row = out.rank - 2, d = row - 1;
  g.m = out.shape[row], g.n = out.shape[row + 1], g.k = a.shape[row + 1];
  for (; d >= 0 && (b.stride[d] == 0 || out.shape[d] == 1); --d) {
    if (out.shape[d] != 1 && g.m != 1 && a.stride[d] != a.stride[row] * g.m) break;
    if (g.m == 1) row = d;
    g.m *= out.shape[d];
  }
  g.a = {nullptr, a.stride[row], a.stride[out.rank - 1], g.m, false, false};
  g.b = {nullptr, b.stride[out.rank - 1], b.stride[out.rank - 2], g.n, false, false};
  p.batches = 1;
  g.batch_axes = 0;
  for (int i = 0; i <= d; ++i) {
    if (out.shape[i] == 1) continue;
    p.batches *= out.shape[i];
    const int last = g.batch_axes - 1;
    const bool merges = last >= 0 && g.a_batch[last] == a.stride[i] * out.shape[i] &&
                        g.b_batch[last] == b.stride[i] * out.shape[i];
    if (!merges && last + 1 == kBatchAxes) return "gemm: expected fewer batch axes";
    const int to = merges ? last : g.batch_axes++;
    g.batch[to] = merges ? g.batch[to] * out.shape[i] : out.shape[i];
    g.a_batch[to] = a.stride[i], g.b_batch[to] = b.stride[i];
  }
  return nullptr;
}

int64_t magnitude_or_one(int64_t stride) { return stride == 0 ? 1 : magnitude(stride); }

// How neighbouring threads walk through an operand.
void choose_direction(Matrix& m, int64_t k) {
  if (m.extent <= 1) m.x_stride = 0;
  m.along_k =
      m.extent <= 1 || (k > 1 && magnitude_or_one(m.k_stride) < magnitude_or_one(m.x_stride));
}

void cut_k(GemmPlan& p) {
  constexpr int64_t kShortest = 256, kStep = 64;
  Gemm& g = p.g;
  g.parts = 1;
  g.part_k = g.k;
  if (g.a.along_k || g.a.x_stride != 1 || g.k < 2 * kShortest) return;
  const int64_t tiles = tiles_of(p, 64, 64);
  const int64_t wanted = min(2 * kFullGpu / max(tiles, int64_t{1}), g.k / kShortest);
  if (wanted < 2) return;
  g.part_k = ceil_div(ceil_div(g.k, wanted), kStep) * kStep;
  g.parts = static_cast<int>(ceil_div(g.k, g.part_k));
}

const char* make(const Call& call, Expression& e, GemmPlan& p) {
  if (const char* wrong = check_gemm(call)) return wrong;
  p = {};
  if (const char* wrong =
          read_expression(call.ints, call.n_ints, call.floats, call.n_floats, e, p.r))
    return wrong;
  const Tensor *a = call.tensors + e.n_out, *b = a + 1;
  if (const char* wrong = read_axes(call, *a, *b, p)) return wrong;
  choose_direction(p.g.a, p.g.k);
  choose_direction(p.g.b, p.g.k);
  cut_k(p);
  if (tiles_of(p, 32, 32) * p.g.parts >= kMostBlocks)
    return "gemm: expected fewer than 2^31 tiles of 32 x 32";
  p.tf32 = a->dtype == DType::f32 && tf32_products;
  return place_results(call.tensors, b + 1, compute_type(a->dtype), e, p.r);
}

// Whether 16-byte loads along the direction of m are possible.
bool loads_whole(const Gemm& g, const Matrix& m, const int64_t* batch, int64_t vector) {
  const bool unit = (m.along_k ? m.k_stride : m.x_stride) == 1;
  const int64_t run = m.along_k ? g.k : m.extent, other = m.along_k ? m.x_stride : m.k_stride;
  bool fits = unit && run % vector == 0 && other % vector == 0 &&
              reinterpret_cast<uintptr_t>(m.data) % 16 == 0;
  for (int d = 0; d < g.batch_axes; ++d) fits &= batch[d] % vector == 0;
  return fits;
}

template <class C, Form kA, Form kB>
cudaError_t start(GemmPlan& p, const Results& r, cudaStream_t stream) {
  Results results = r;
  const size_t shared = choose_width<C>(results);
  if (const cudaError_t error = allow_shared(gemm<C, kA, kB>, shared)) return error;
  Gemm g = p.g;
  const unsigned blocks = set_tiles<C>(p, g);
  return launch(gemm<C, kA, kB>, blocks, C::kThreads, shared, stream, g, results);
}

bool is_large(const GemmPlan& p) {
  const Gemm& g = p.g;
  return g.a.whole && g.b.whole && g.m > 64 && g.n > 64 && (g.a.along_k || !g.b.along_k) &&
         tiles_of(p, 128, 128) * g.parts >= kEnoughTiles;
}

template <class T>
cudaError_t start_tiles(const Call& call, GemmPlan& p, const Results& r, cudaStream_t stream) {
  const Gemm& g = p.g;
  const DType dtype = call.tensors[p.r.e.n_out].dtype;
  if (is_half(dtype) || p.tf32) return launch_tensor_gemm(dtype, p, r, stream);
  if constexpr (sizeof(T) == 4) {
    using C = LargeTile<T>;
    if (is_large(p)) {
      if (!g.a.along_k) return start<C, Form::across, Form::across>(p, r, stream);
      if (g.b.along_k) return start<C, Form::along_k, Form::along_k>(p, r, stream);
      return start<C, Form::along_k, Form::across>(p, r, stream);
    }
  }
  if (g.m > 32 && g.n > 32 && tiles_of(p, 64, 64) * g.parts >= kEnoughTiles)
    return start<MiddleTile<T>, Form::any, Form::any>(p, r, stream);
  return start<SmallTile<T>, Form::any, Form::any>(p, r, stream);
}

template <class T>
cudaError_t run(const Call& call, GemmPlan& p, cudaStream_t stream) {
  const Tensor* a = call.tensors + p.r.e.n_out;
  p.g.a.data = a->data, p.g.b.data = a[1].data;
  p.g.a.whole = loads_whole(p.g, p.g.a, p.g.a_batch, 16 / sizeof(T));
  p.g.b.whole = loads_whole(p.g, p.g.b, p.g.b_batch, 16 / sizeof(T));
  set_addresses<T>(call.tensors, a + 2, p.r);
  if (p.g.parts == 1) return start_tiles<T>(call, p, p.r, stream);
  T* partial = reinterpret_cast<T*>(call.shared);
  if (const cudaError_t error = start_tiles<T>(call, p, partial_results(partial, p.g.n), stream))
    return error;
  return launch_finish<T>(p.r, partial, p.g.parts, p.batches * p.g.m, stream);
}

}  // namespace

const char* plan_gemm(const Call& call, Work& work) {
  Expression e;
  GemmPlan p;
  if (const char* wrong = make(call, e, p)) return wrong;
  const Tensor& a = call.tensors[e.n_out];
  work.outputs = e.n_out;
  work.prepared_bytes = sizeof p;
  if (call.prepared) std::memcpy(call.prepared, &p, sizeof p);
  if (p.g.parts > 1)
    work.shared_bytes = p.g.parts * p.batches * p.g.m * p.g.n * size_of(compute_type(a.dtype));
  const double sums =
      static_cast<double>(p.batches) * static_cast<double>(p.g.m) * static_cast<double>(p.g.n);
  work.flops = sums * (2.0 * static_cast<double>(p.g.k) + (call.n_ints > 0 ? cost(e) : 0));
  work.bytes = distinct_bytes(call);
  return nullptr;
}

cudaError_t launch_gemm(const Call& call, cudaStream_t stream) {
  Expression e;
  GemmPlan p;
  if (call.prepared) {
    std::memcpy(&p, call.prepared, sizeof p);
  } else {
    make(call, e, p);
  }
  if (p.batches * p.g.m * p.g.n == 0) return cudaSuccess;
  if (call.tensors[p.r.e.n_out].dtype == DType::f64) return run<double>(call, p, stream);
  return run<float>(call, p, stream);
}

}  // namespace dl::cuda
