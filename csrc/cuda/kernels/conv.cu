// y = f(conv(x, w), extra inputs...) and its gradients, as products of matrices that lie in images
// and filters (gather.cuh); nothing is unrolled into columns. For each group:
//
//   conv             y (pixels, K)     = x (pixels, taps C) @ w (taps C, K)
//   input gradient   dx (pixels, C)    = dy (pixels, taps K) @ w (taps K, C)     for each phase
//   filter gradient  dw (taps C, K)    = x (taps C, pixels) @ dy (pixels, K)
//
// The input gradient is a convolution for each residue of the strides (common/conv.h). The filter
// gradient sums over the batch: it is cut along the pixels, and partial sums are added in order.
// Where each channel is a group of its own there is nothing to share: depthwise.cuh.
#include "cuda/conv_product.cuh"
#include "cuda/depthwise.cuh"

namespace dl::cuda {

namespace {

// ---- on the device ----

template <class C>
__global__ void __launch_bounds__(C::kThreads)
    conv(const __grid_constant__ ConvProduct c, const __grid_constant__ Results r) {
  using T = typename C::Type;
  DL_SHARED(T, shared);
  const auto [group, part, row, col] = ConvTile::of<C>(c);
  const int64_t k = part * c.part_depth;
  GatherLoader<C, C::kRows> a(c.a, group * c.a_group, static_cast<uint32_t>(row),
                              static_cast<uint32_t>(k));
  GatherLoader<C, C::kCols> b(c.b, group * c.b_group, static_cast<uint32_t>(col),
                              static_cast<uint32_t>(k));
  T sum[C::kHeight][C::kWidth];
  clear<C>(sum);
  multiply<C>(a, b, min(c.part_depth, c.depth - k), shared, sum);
  store_tile<C>(r, sum, ConvTile::of<C>(c).template span<C>(c), shared);
}

// ---- on the host ----

template <class C>
cudaError_t start(ConvProduct c, Results r, cudaStream_t stream) {
  const size_t shared = choose_width<C>(r);
  if (const cudaError_t error = allow_shared(conv<C>, shared)) return error;
  const unsigned blocks = set_tiles<C>(c);
  if (blocks == 0) return cudaErrorInvalidValue;
  return launch(conv<C>, blocks, C::kThreads, shared, stream, c, r);
}

template <class T>
cudaError_t start_tiles(DType dtype, ConvProduct& c, Results r, cudaStream_t stream) {
  if (c.groups > 1 && c.cols % (16 / static_cast<int>(sizeof(T))) != 0) {
    for (Results::Place& x : r.place) x.whole = false;  // a group's columns begin anywhere
  }
  if (c.tensor) return launch_tensor_conv(dtype, c, r, stream);
  choose_loads<T>(c.a, c.a_group);
  choose_loads<T>(c.b, c.b_group);
  if constexpr (sizeof(T) == 4) {
    if (c.rows > 32 && c.cols > 32 && tiles_of(c, 64) * c.parts >= kEnoughTiles)
      return start<MiddleTile<T>>(c, r, stream);
  }
  return start<SmallTile<T>>(c, r, stream);
}

int64_t tap_count(const ConvCall& c) { return c.axis[0].taps * c.axis[1].taps * c.axis[2].taps; }

void cut_pixels(const ConvCall& c, ConvProduct& p) {
  constexpr int64_t kBlocks = 2 * kFullGpu, kShortest = 256, kStep = 64;
  constexpr int64_t kMostSums = int64_t{1} << 24;
  p.rows = tap_count(c) * c.channels, p.cols = c.filters, p.groups = static_cast<int>(c.groups);
  p.depth = c.batch * c.axis[0].out * c.axis[1].out * c.axis[2].out;
  const int64_t sums = max(p.rows * p.cols * p.groups, int64_t{1});
  int64_t wanted = min(kBlocks / max(tiles_of(p, 64), int64_t{1}), p.depth / kShortest);
  wanted = max(min(wanted, kMostSums / sums), int64_t{1});
  p.part_depth = max(ceil_div(ceil_div(p.depth, wanted), kStep) * kStep, kStep);
  p.parts = static_cast<int>(max(ceil_div(p.depth, p.part_depth), int64_t{1}));
}

template <class T>
cudaError_t run_filter_grad(const Call& call, const ConvCall& c, Results& r, cudaStream_t stream) {
  const Tensor &x = call.tensors[c.e.n_out], &dy = call.tensors[c.e.n_out + 1];
  ConvProduct p{};
  cut_pixels(c, p);
  const ConvPhase whole[3] = {forward_phase(c.axis[0]), forward_phase(c.axis[1]),
                              forward_phase(c.axis[2])};
  const Strides in = image_strides(x), out = image_strides(dy);
  p.a = {x.data + first_pixel(whole, in) * size_of(x.dtype),
         tap_map(whole, in, c.channels),
         pixel_map(whole, in),
         {},
         uint32_t(p.rows),
         false,
         false};
  p.b = {
      dy.data, channel_map(c.filters, out.c), result_map(whole, out), {}, uint32_t(p.cols), false,
      false};
  set_limits(whole, p.a);
  set_no_limits(p.b);
  p.a_group = c.channels * in.c, p.b_group = c.filters * out.c;
  set_addresses<T>(call.tensors, &dy + 1, r);
  p.tensor = is_half(x.dtype) || c.tf32;
  if (p.parts == 1) return start_tiles<T>(x.dtype, p, r, stream);
  T* partial = reinterpret_cast<T*>(call.shared);
  if (const cudaError_t error =
          start_tiles<T>(x.dtype, p, partial_results(partial, r.cols), stream))
    return error;
  return launch_finish<T>(r, partial, p.parts, p.rows, stream);
}

// One phase of y or dx: its results are views of the call's.
template <class T>
cudaError_t run_phase(const Call& call, const ConvCall& c, const ConvPhase (&phase)[3],
                      cudaStream_t stream) {
  const Tensor &image = call.tensors[c.e.n_out], &w = call.tensors[c.e.n_out + 1];
  const bool back = c.task == Task::input_grad;
  Tensor views[kMostPlaces];
  const int n = phase_views(call, c, phase, views);
  Results r{};
  Expression e;
  c.read_expression(call, e, r);
  if (place_results(views, views + e.n_out, compute_type(image.dtype), e, r))
    return cudaErrorInvalidValue;
  set_addresses<T>(views, views + e.n_out, r);
  if (n == 0 || c.batch * phase[0].axis.out * phase[1].axis.out * phase[2].axis.out == 0)
    return cudaSuccess;
  if (c.depthwise) return start_depthwise<T>(c, phase, image, w, r, stream);
  ConvProduct p{};
  const int64_t inner = back ? c.filters : c.channels, cols = back ? c.channels : c.filters;
  const Strides in = image_strides(image), f = filter_strides(w);
  p.groups = static_cast<int>(c.groups), p.parts = 1;
  p.rows = c.batch * phase[0].axis.out * phase[1].axis.out * phase[2].axis.out;
  p.cols = cols;
  p.depth = p.part_depth = phase[0].axis.taps * phase[1].axis.taps * phase[2].axis.taps * inner;
  p.a = {image.data + first_pixel(phase, in) * size_of(image.dtype),
         pixel_map(phase, in),
         tap_map(phase, in, inner),
         {},
         uint32_t(p.rows),
         false,
         false};
  p.b = {w.data + first_tap(phase, f) * size_of(w.dtype),
         channel_map(cols, back ? f.c : f.k),
         filter_map(phase, f, inner, back ? f.k : f.c),
         {},
         uint32_t(p.cols),
         false,
         false};
  set_limits(phase, p.a);
  set_no_limits(p.b);
  p.tensor = is_half(image.dtype) || c.tf32;
  p.a_group = inner * in.c, p.b_group = c.filters * f.k;
  return start_tiles<T>(image.dtype, p, r, stream);
}

template <class T>
cudaError_t run_phases(const Call& call, const ConvCall& c, cudaStream_t stream) {
  const bool back = c.task == Task::input_grad;
  int64_t count[3] = {1, 1, 1};
  for (int d = 0; back && d < 3; ++d) count[d] = gradient_phases(c.axis[d]);
  for (int64_t i = 0; i < count[0] * count[1] * count[2]; ++i) {
    const int64_t residue[3] = {i / count[2] / count[1], i / count[2] % count[1], i % count[2]};
    ConvPhase phase[3];
    for (int d = 0; d < 3; ++d)
      phase[d] = back ? gradient_phase(c.axis[d], residue[d]) : forward_phase(c.axis[d]);
    if (const cudaError_t error = run_phase<T>(call, c, phase, stream)) return error;
  }
  return cudaSuccess;
}

const char* plan(const Call& call, Task task, Work& work) {
  ConvCall c;
  if (const char* wrong = read_conv(call, task, c)) return wrong;
  Results r{};
  Expression e;
  if (const char* wrong = c.read_expression(call, e, r)) return wrong;
  const DType dtype = compute_type(call.tensors[e.n_out].dtype);
  if (const char* wrong = place_results(call.tensors, call.tensors + e.n_out + 2, dtype, e, r))
    return wrong;
  work.outputs = e.n_out;
  if (task == Task::filter_grad) {
    ConvProduct p{};
    cut_pixels(c, p);
    const int64_t parts = c.depthwise ? depthwise_parts(c) : p.parts;
    if (parts > 1 || c.depthwise)
      work.shared_bytes = parts * tap_count(c) * c.channels * c.filters * c.groups * size_of(dtype);
  }
  count_cost(call, c, e, work);
  work.prepared_bytes = sizeof c.tf32;
  if (call.prepared) *static_cast<bool*>(call.prepared) = c.tf32;
  return nullptr;
}

template <class T>
cudaError_t run(const Call& call, const ConvCall& c, cudaStream_t stream) {
  if (c.task != Task::filter_grad) return run_phases<T>(call, c, stream);
  Results r{};
  Expression e;
  c.read_expression(call, e, r);
  place_results(call.tensors, call.tensors + e.n_out + 2, compute_type(call.tensors[e.n_out].dtype),
                e, r);
  if (tap_count(c) * c.channels * c.filters == 0) return cudaSuccess;
  if (!c.depthwise) return run_filter_grad<T>(call, c, r, stream);
  set_addresses<T>(call.tensors, call.tensors + e.n_out + 2, r);
  return start_depthwise_filter<T>(call, c, r, stream);
}

cudaError_t start(const Call& call, Task task, cudaStream_t stream) {
  ConvCall c;
  if (read_conv(call, task, c)) return cudaErrorInvalidValue;
  if (call.prepared) c.tf32 = *static_cast<const bool*>(call.prepared);
  if (call.tensors[c.e.n_out].dtype == DType::f64) return run<double>(call, c, stream);
  return run<float>(call, c, stream);
}

}  // namespace

const char* plan_conv(const Call& call, Work& work) { return plan(call, Task::forward, work); }
cudaError_t launch_conv(const Call& call, cudaStream_t stream) {
  return start(call, Task::forward, stream);
}
const char* plan_conv_input_grad(const Call& call, Work& work) {
  return plan(call, Task::input_grad, work);
}
cudaError_t launch_conv_input_grad(const Call& call, cudaStream_t stream) {
  return start(call, Task::input_grad, stream);
}
const char* plan_conv_filter_grad(const Call& call, Work& work) {
  return plan(call, Task::filter_grad, work);
}
cudaError_t launch_conv_filter_grad(const Call& call, cudaStream_t stream) {
  return start(call, Task::filter_grad, stream);
}

}  // namespace dl::cuda
