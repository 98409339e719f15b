// Convolutions (conv.cu) on tensor cores, from halves or, when asked, from floats as tf32.
#include "cuda/conv_product.cuh"
#include "cuda/tensor_tile.cuh"

namespace dl::cuda {

namespace {

// A tile of a Gathered (gather.cuh). Chunks that are `whole` lie side by side; what is outside of
// the image becomes 0.
template <class C, int kExtent>
class GatherChunks {
  using E = typename C::Element;
  static constexpr int V = C::kVector, kCount = Chunks<C, kExtent>::kCount;

 public:
  __device__ GatherChunks(const Gathered& g, int64_t offset, uint32_t first_x, uint32_t first_k,
                          int64_t depth)
      : g_(g),
        chunks_(g.along_k),
        data_(reinterpret_cast<const E*>(g.data) + offset),
        x_(first_x + (g.along_k ? chunks_.row : chunks_.chunk * V)),
        k_(first_k + (g.along_k ? chunks_.chunk * V : chunks_.row)),
        end_(first_k + static_cast<uint32_t>(depth)) {}
  __device__ bool along_k() const { return g_.along_k; }

  // The next kDepth of k.
  __device__ void copy(SharedAddress to) {
    if (g_.whole) {
      const Spot fixed = g_.along_k ? g_.k.spot(k_) : g_.x.spot(x_);
#pragma unroll
      for (int i = 0; i < kCount; ++i) {
        const uint32_t x = g_.along_k ? x_ + i * chunks_.row_step : x_;
        const uint32_t k = g_.along_k ? k_ : k_ + i * chunks_.row_step;
        const Spot s = g_.along_k ? g_.x.spot(x) : g_.k.spot(k);
        const bool there = x < g_.extent && k < end_ && g_.shows(fixed, s);
        copy_async(to + chunks_.at + i * chunks_.step,
                   there ? data_ + fixed.offset + s.offset : data_, there ? 16 : 0);
      }
    } else {
#pragma unroll 1
      for (int i = 0; i < kCount; ++i)
        copy_elements(to + chunks_.at + i * chunks_.step,
                      g_.along_k ? x_ + i * chunks_.row_step : x_,
                      g_.along_k ? k_ : k_ + i * chunks_.row_step);
    }
    k_ += C::kDepth;
  }

 private:
  __device__ void copy_elements(SharedAddress to, uint32_t x, uint32_t k) const {
    alignas(16) E chunk[V];
    const Spot fixed = g_.along_k ? g_.x.spot(x) : g_.k.spot(k);
#pragma unroll
    for (int v = 0; v < V; ++v) {
      const uint32_t xv = g_.along_k ? x : x + v, kv = g_.along_k ? k + v : k;
      const Spot s = g_.along_k ? g_.k.spot(kv) : g_.x.spot(xv);
      const bool there = xv < g_.extent && kv < end_ && g_.shows(fixed, s);
      chunk[v] = there ? data_[fixed.offset + s.offset] : E(0.0f);
    }
    uint32_t words[4];
    memcpy(words, chunk, 16);
    store_shared(to, words);
  }

  const Gathered& g_;
  const Chunks<C, kExtent> chunks_;
  const E* data_;
  uint32_t x_, k_, end_;
};

template <class C>
__global__ void __launch_bounds__(C::kThreads, C::kBlocks)
    conv_tensor(const __grid_constant__ ConvProduct c, const __grid_constant__ Results r) {
  DL_SHARED(char, shared);
  const ConvTile t = ConvTile::of<C>(c);
  const int64_t k = t.part * c.part_depth, depth = min(c.part_depth, c.depth - k);
  GatherChunks<C, C::kRows> a(c.a, t.group * c.a_group, static_cast<uint32_t>(t.row),
                              static_cast<uint32_t>(k), depth);
  GatherChunks<C, C::kCols> b(c.b, t.group * c.b_group, static_cast<uint32_t>(t.col),
                              static_cast<uint32_t>(k), depth);
  TensorSums<C> sum;
  multiply_tensors<C>(a, b, depth, shared, sum);
  store_tensor_tile<C>(r, sum, t.template span<C>(c), shared);
}

template <class C>
cudaError_t start(ConvProduct& c, Results r, cudaStream_t stream) {
  const size_t shared = choose_tensor_width<C>(r);
  if (const cudaError_t error = allow_shared(conv_tensor<C>, shared)) return error;
  const unsigned blocks = set_tiles<C>(c);
  if (blocks == 0) return cudaErrorInvalidValue;
  return launch(conv_tensor<C>, blocks, C::kThreads, shared, stream, c, r);
}

template <class E>
cudaError_t start_tiles(ConvProduct& c, const Results& r, cudaStream_t stream) {
  choose_loads<E>(c.a, c.a_group);
  choose_loads<E>(c.b, c.b_group);
  if (c.rows > 64 && c.cols > 64 && tiles_of(c, 128) * c.parts >= kFullGpu / 2)
    return start<MiddleTensorTile<E>>(c, r, stream);
  return start<SmallTensorTile<E>>(c, r, stream);
}

}  // namespace

cudaError_t launch_tensor_conv(DType dtype, ConvProduct& c, const Results& r, cudaStream_t stream) {
  if (dtype == DType::bf16) return start_tiles<Bf16>(c, r, stream);
  if (dtype == DType::f16) return start_tiles<F16>(c, r, stream);
  return start_tiles<float>(c, r, stream);
}

}  // namespace dl::cuda
