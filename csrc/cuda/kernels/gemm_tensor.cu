// gemm (gemm.cu) on tensor cores, from halves or, when asked, from floats as tf32. Tiles of
// 128 x 256 where these fill a large GPU and its shared memory holds three of each operand, else
// 128 x 128 or 64 x 64.
#include "cuda/gemm.cuh"
#include "cuda/tensor_tile.cuh"

namespace dl::cuda {

namespace {

template <class C>
__global__ void __launch_bounds__(C::kThreads, C::kBlocks)
    gemm_tensor(const __grid_constant__ Gemm g, const __grid_constant__ Results r) {
  DL_SHARED(char, shared);
  const TilePlace p = place_of(g, blockIdx.x);
  const int64_t row = int64_t{p.row} * C::kRows, col = int64_t{p.col} * C::kCols;
  const int64_t k = p.part * g.part_k, depth = min(g.part_k, g.k - k);
  MatrixChunks<C, C::kRows> a(g.a, p.a_offset, row, k, depth);
  MatrixChunks<C, C::kCols> b(g.b, p.b_offset, col, k, depth);
  TensorSums<C> sum;
  multiply_tensors<C>(a, b, depth, shared, sum);
  store_tensor_tile<C>(r, sum, span_of<C>(g, p), shared);
}

// Whether 16-byte copies along the direction of m are possible; the last may be of fewer.
template <class E>
bool copies_whole(const Gemm& g, const Matrix& m, const int64_t* batch) {
  constexpr int64_t V = 16 / sizeof(E);
  const int64_t unit = m.along_k ? m.k_stride : m.x_stride;
  const int64_t other = m.along_k ? m.x_stride : m.k_stride;
  bool fits = unit == 1 && other % V == 0 && is_aligned(m.data);
  for (int d = 0; d < g.batch_axes; ++d) fits &= batch[d] % V == 0;
  return fits;
}

template <class C>
cudaError_t start(const GemmPlan& p, Gemm g, Results r, cudaStream_t stream) {
  const size_t shared = choose_tensor_width<C>(r);
  if (const cudaError_t error = allow_shared(gemm_tensor<C>, shared)) return error;
  const unsigned blocks = set_tiles<C>(p, g);
  return launch(gemm_tensor<C>, blocks, C::kThreads, shared, stream, g, r);
}

template <class E>
cudaError_t start_tiles(DType dtype, const GemmPlan& p, const Results& r, cudaStream_t stream) {
  cudaError_t error = cudaSuccess;
  if (start_hopper_gemm && start_hopper_gemm(dtype, p, r, stream, error)) return error;
  Gemm g = p.g;
  g.a.whole = copies_whole<E>(g, g.a, g.a_batch);
  g.b.whole = copies_whole<E>(g, g.b, g.b_batch);
  const int64_t large = tiles_of(p, 128, 256) * g.parts, middle = tiles_of(p, 128, 128) * g.parts;
  if (g.m > 64 && g.n > 128 && large >= kFullGpu) {
    using C = LargeTensorTile<E>;
    if (allow_shared(gemm_tensor<C>, C::kSharedBytes) == cudaSuccess)
      return start<C>(p, g, r, stream);
    cudaGetLastError();  // GPUs with 100 KB of shared memory
  }
  if (g.m > 64 && g.n > 64 && middle >= kFullGpu / 2)
    return start<MiddleTensorTile<E>>(p, g, r, stream);
  return start<SmallTensorTile<E>>(p, g, r, stream);
}

}  // namespace

cudaError_t launch_tensor_gemm(DType dtype, const GemmPlan& p, const Results& r,
                               cudaStream_t stream) {
  if (dtype == DType::bf16) return start_tiles<Bf16>(dtype, p, r, stream);
  if (dtype == DType::f16) return start_tiles<F16>(dtype, p, r, stream);
  return start_tiles<float>(dtype, p, r, stream);
}

}  // namespace dl::cuda
