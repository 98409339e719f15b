// gemm (gemm.cu) on the tensor cores of Hopper (hopper_tile.cuh): large products of halves, and of
// floats as tf32. One block on each multiprocessor takes tile after tile, those that run together
// 2048 rows high, so that they share what they read in L2.
//
// Every element is one chain over k, in order. Which sums the hardware adds first within 32 bytes
// of k is not documented: there the bits may differ from those of gemm_tensor.cu, which takes what
// is smaller.
#include <algorithm>

#include "cuda/hopper_tile.cuh"
#include "cuda/hopper_use.h"

namespace dl::cuda {

namespace {

template <class C>
__global__ void __launch_bounds__(kThreads, 1)
    gemm_hopper(const __grid_constant__ HopperGemm h, const __grid_constant__ Results r) {
  DL_SHARED(char, shared);
  const int before = static_cast<int>(-shared_bits(shared_address(shared)) & (kSwizzleBytes - 1));
  char* parts = shared + before + h.stages * kStageBytes;
  const SharedAddress first = shared_address(shared + before);
  const Stages stages{first, first + static_cast<int>(kAllShared - kSwizzleBytes - kBarrierBytes),
                      h.stages};
  const unsigned tiles = unsigned(h.batches) * h.g.parts * h.g.tile_rows * h.g.tile_cols;
  if (threadIdx.x == 0) {
    for (int i = 0; i < h.stages; ++i) {
      make_barrier(stages.full(i), 1);
      make_barrier(stages.empty(i), kConsumerWarps);
    }
    show_barriers();
  }
  __syncthreads();
  if (threadIdx.x < kWarpgroup) {
    give_registers<40>();
    if (threadIdx.x == 0) copy_tiles<C>(h, stages, tiles);
  } else {
    take_registers<232>();
    const int group = __shfl_sync(kAllLanes, static_cast<int>(threadIdx.x) / kWarpgroup, 0) - 1;
    Turn turn;
    for (unsigned tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
      const TilePlace p = place_of<C::kBand>(h.g, tile);
      float sum[kSums];
      sum_tile<C>(stages, turn, steps_of<C>(h.g, p), group, sum);
      store_sums_of_tile<C>(h, r, p, group, parts, sum);
    }
  }
}

// ---- on the host ----

// The driver's function that describes tensors, found without linking to the driver.
decltype(&cuTensorMapEncodeTiled) encoder() {
  static const auto found = [] {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult result;
    constexpr const char* kName = "cuTensorMapEncodeTiled";
#if defined(CUDART_VERSION) && CUDART_VERSION < 12050
    const cudaError_t error = cudaGetDriverEntryPoint(kName, &function, cudaEnableDefault, &result);
#else
    const cudaError_t error =
        cudaGetDriverEntryPointByVersion(kName, &function, 12000, cudaEnableDefault, &result);
#endif
    const bool well = error == cudaSuccess && result == cudaDriverEntryPointSuccess;
    if (!well) cudaGetLastError();
    return well ? reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function) : nullptr;
  }();
  return found;
}

// m, of which boxes of `extent` x by 128 bytes of k are copied, or of 128 bytes of x by as many k.
bool describe_tensor(const Matrix& m, int64_t k, int64_t batches, int64_t batch_stride, DType dtype,
                     int extent, CUtensorMap& map) {
  const int64_t size = size_of(dtype), other = m.along_k ? m.x_stride : m.k_stride;
  const cuuint64_t inner = m.along_k ? k : m.extent, outer = m.along_k ? m.extent : k;
  const cuuint64_t row_bytes = outer == 1 ? ceil_div(inner * size, 16) * 16 : other * size;
  const cuuint64_t matrix_bytes = batches == 1 ? row_bytes * outer : batch_stride * size;
  const cuuint64_t sizes[3] = {inner, outer, static_cast<cuuint64_t>(batches)};
  const cuuint64_t strides[2] = {row_bytes, matrix_bytes};
  const cuuint32_t run = static_cast<cuuint32_t>(128 / size), ones[3] = {1, 1, 1};
  const cuuint32_t box[3] = {run, m.along_k ? static_cast<cuuint32_t>(extent) : run, 1};
  const auto type = dtype == DType::bf16  ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16
                    : dtype == DType::f16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16
                                          : CU_TENSOR_MAP_DATA_TYPE_TFLOAT32;
  return encoder()(&map, type, 3, const_cast<char*>(m.data), sizes, strides, box, ones,
                   CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                   CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                   CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

// Whether an operand can be described: runs of 16 bytes, and less than what coordinates count.
bool fits(const Matrix& m, const GemmPlan& p, const int64_t* batch, int64_t size) {
  constexpr int64_t kMost = int64_t{1} << 31;
  const int64_t unit = m.along_k ? m.k_stride : m.x_stride;
  const int64_t other = m.along_k ? m.x_stride : m.k_stride, V = 16 / size;
  const bool rows = other > 0 || (m.along_k ? m.extent : p.g.k) == 1;
  const bool batches = p.g.batch_axes == 0 || (batch[0] >= 0 && batch[0] % V == 0);
  return unit == 1 && rows && other % V == 0 && batches && m.extent < kMost && p.g.k < kMost &&
         reinterpret_cast<uintptr_t>(m.data) % 16 == 0;
}

// As many stages as the results leave shared memory for; 0: too little.
int choose_stages(const Results& r) {
  constexpr size_t kFree = kAllShared - kSwizzleBytes - kBarrierBytes - kPartsBytes;
  const size_t needed = r.simple ? 0 : registers_bytes<float, kWidth>(r.e, kConsumers * kWarpgroup);
  for (int stages = kMostStages; stages >= kLeastStages; --stages) {
    if (stages * kStageBytes + needed <= kFree) return stages;
  }
  return 0;
}

int multiprocessors() {
  static const int count = [] {
    int n = 0;
    return cudaDeviceGetAttribute(&n, cudaDevAttrMultiProcessorCount, 0) == cudaSuccess ? n : 1;
  }();
  return count;
}

constexpr int64_t kLeastDepth = 256;  // of k, below which others are as fast

// Enough tiles, little of them outside of C, and long enough.
template <class C>
bool gains(const GemmPlan& p) {
  const int64_t tiles = tiles_of(p, C::kRows, C::kCols) * p.g.parts;
  return tiles >= kEnoughTiles && p.g.k >= kLeastDepth &&
         p.batches * p.g.m * p.g.n * p.g.parts >= tiles * (C::kRows * C::kCols / 2);
}

template <class C>
bool start(DType dtype, const GemmPlan& p, const Results& r, cudaStream_t stream,
           cudaError_t& error) {
  if (hopper_use == HopperUse::large && !gains<C>(p)) return false;
  // There is code for Hopper alone.
  static const bool loaded = allow_shared(gemm_hopper<C>, kAllShared) == cudaSuccess;
  if (!loaded) cudaGetLastError();
  HopperGemm h{};
  h.g = p.g;
  h.batches = static_cast<int>(p.batches);
  h.stages = choose_stages(r);
  if (!loaded || h.stages == 0 || !encoder()) return false;
  const unsigned tiles = set_tiles<C>(p, h.g);
  const auto describe = [&](const Matrix& m, const int64_t* batch, int extent, CUtensorMap& map,
                            bool& repeats) {
    repeats = p.g.batch_axes == 0 || batch[0] == 0;
    return describe_tensor(m, p.g.k, repeats ? 1 : p.batches, repeats ? 0 : batch[0], dtype, extent,
                           map);
  };
  const bool turned = C::kTransposed;
  if (!describe(turned ? p.g.b : p.g.a, turned ? p.g.b_batch : p.g.a_batch, kX, h.x, h.x_repeats) ||
      !describe(turned ? p.g.a : p.g.b, turned ? p.g.a_batch : p.g.b_batch, kY, h.y, h.y_repeats))
    return false;
  const unsigned blocks = std::min(tiles, static_cast<unsigned>(multiprocessors()));
  error = launch(gemm_hopper<C>, blocks, kThreads, kAllShared, stream, h, r);
  ++hopper_products;
  return true;
}

template <class E>
bool start_halves(DType dtype, const GemmPlan& p, const Results& r, cudaStream_t stream,
                  cudaError_t& error) {
  const bool a = p.g.a.along_k, b = p.g.b.along_k;
  if (a && b) return start<HopperTile<E, false, false>>(dtype, p, r, stream, error);
  if (a) return start<HopperTile<E, false, true>>(dtype, p, r, stream, error);
  return !b && start<HopperTile<E, true, true>>(dtype, p, r, stream, error);
}

}  // namespace

bool start_hopper_gemm(DType dtype, const GemmPlan& p, const Results& r, cudaStream_t stream,
                       cudaError_t& error) {
  const Gemm& g = p.g;
  const int64_t size = size_of(dtype);
  if (hopper_use == HopperUse::never || g.k == 0 || g.batch_axes > 1 ||
      !fits(g.a, p, g.a_batch, size) || !fits(g.b, p, g.b_batch, size))
    return false;
  if (dtype == DType::bf16) return start_halves<Bf16>(dtype, p, r, stream, error);
  if (dtype == DType::f16) return start_halves<F16>(dtype, p, r, stream, error);
  if (!g.a.along_k) return false;
  if (g.b.along_k) return start<HopperTile<float, false, false>>(dtype, p, r, stream, error);
  return start<HopperTile<float, true, false>>(dtype, p, r, stream, error);
}

}  // namespace dl::cuda
