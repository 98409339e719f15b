// Matrix products and convolutions on the emulated device, under the sanitizers: what they read
// and write lies in buffers of exactly the size needed. Values are small integers, so that every
// result is exact and any order of sums gives it; halves are rounded once, when they are stored.
#include "cuda/half.cuh"
#include "cuda/hopper_use.h"
#include "cuda/launch.h"
#include "cuda/precision.h"

#include "common/conv_call.h"
#include "common/gemm.h"
#include "tests/check.h"

#include <cstdlib>
#include <random>
#include <vector>

using namespace dl;
using dl::cuda::Bf16, dl::cuda::F16, dl::cuda::Computed, dl::cuda::Task;
using dl::cuda::kEnoughTiles, dl::cuda::kFullGpu;

namespace dl::cuda {
#define DL_KERNEL(name)                        \
  const char* plan_##name(const Call&, Work&); \
  cudaError_t launch_##name(const Call&, cudaStream_t);
#include "kernels.def"
#undef DL_KERNEL
}  // namespace dl::cuda

static std::mt19937 generator(1);
static int64_t any(int64_t low, int64_t high) {
  return std::uniform_int_distribution<int64_t>(low, high)(generator);
}

enum class Order { plain, swapped, spread };  // last two axes swapped; nothing of stride 1

template <class T>
struct Array {
  Tensor t{};
  std::vector<T> memory;

  explicit Array(const std::vector<int64_t>& shape, Order order = Order::plain) {
    t.dtype = std::is_same_v<T, Bf16>  ? DType::bf16
              : std::is_same_v<T, F16> ? DType::f16
              : sizeof(T) == 4         ? DType::f32
                                       : DType::f64;
    t.rank = static_cast<int>(shape.size());
    std::vector<int> axes(shape.size());
    for (int d = 0; d < t.rank; ++d) axes[d] = d;
    if (order == Order::swapped) std::swap(axes[t.rank - 1], axes[t.rank - 2]);
    int64_t step = order == Order::spread ? 3 : 1, reach = 1;
    for (int i = t.rank - 1; i >= 0; --i) {
      const int d = axes[i];
      t.shape[d] = shape[d], t.stride[d] = step;
      reach += (shape[d] - 1) * step;
      step *= shape[d];
    }
    memory.resize(static_cast<size_t>(reach > 0 ? reach : 1));
    for (T& x : memory) x = static_cast<T>(any(-3, 3));
    t.data = reinterpret_cast<char*>(memory.data());
  }

  void repeat(int first, int last) {
    for (int d = first; d < last; ++d) t.stride[d] = 0;
  }
  T at(std::initializer_list<int64_t> index) const {
    int64_t sum = 0;
    int d = 0;
    for (const int64_t i : index) sum += i * t.stride[d++];
    return memory[static_cast<size_t>(sum)];
  }
};

using Plan = const char* (*)(const Call&, Work&);
using Launch = cudaError_t (*)(const Call&, cudaStream_t);

static void run(Plan plan, Launch launch, const std::vector<Tensor>& tensors,
                const std::vector<int64_t>& ints) {
  std::vector<Tensor> shapes = tensors;
  for (Tensor& t : shapes) t.data = nullptr;
  Call call{shapes.data(), static_cast<int>(shapes.size()),
            ints.data(),   static_cast<int>(ints.size()),
            nullptr,       0,
            nullptr};
  Work work;
  CHECK(!plan(call, work));
  std::vector<char> prepared(static_cast<size_t>(work.prepared_bytes));
  if (work.prepared_bytes > 0) {
    call.prepared = prepared.data();
    CHECK(!plan(call, work));
  }
  char* shared = static_cast<char*>(std::aligned_alloc(64, (work.shared_bytes / 64 + 1) * 64));
  call.shared = shared, call.tensors = tensors.data();
  CHECK(launch(call, nullptr) == cudaSuccess && cudaDeviceSynchronize() == cudaSuccess);
  std::free(shared);
}

// relu(sum + x) and sum - x: what is applied in registers, and what is evaluated.
enum class Ending { none, bias_relu, two };

template <class T>
static std::vector<int64_t> expression(Ending ending) {
  using namespace dl::cuda;
  const int64_t wide = sizeof(T) == 8;
  if (ending == Ending::bias_relu) return {wide, 1, 2, 0, 1, 2, op_add, 2, 0, 1, op_relu, 2, 2, 2};
  if (ending == Ending::two)
    return {wide, 2, 2, 0, 3, 3, op_add, 2, 0, 1, op_relu, 2, 2, op_subtract, 3, 0, 1, 2, 3};
  return {};
}

template <class T>
static void test_gemm(std::vector<int64_t> lead, int64_t m, int64_t n, int64_t k,
                      Order of_a = Order(any(0, 2)), Order of_b = Order(any(0, 2))) {
  const auto shape = [&](int64_t rows, int64_t cols) {
    std::vector<int64_t> s = lead;
    s.push_back(rows), s.push_back(cols);
    return s;
  };
  const int rank = static_cast<int>(lead.size()) + 2;
  Array<T> a(shape(m, k), of_a), b(shape(k, n), of_b);
  Array<T> y(shape(m, n), Order(any(0, 3) % 3)), z(shape(m, n)), x(shape(m, n), Order(any(0, 2)));
  if (any(0, 1)) b.repeat(0, rank - 2);
  if (any(0, 1)) x.repeat(0, rank - 1);
  const Ending ending = Ending(any(0, 2));
  using S = Computed<T>;
  std::vector<Tensor> tensors{y.t};
  if (ending == Ending::two) tensors.push_back(z.t);
  tensors.push_back(a.t), tensors.push_back(b.t);
  if (ending != Ending::none) tensors.push_back(x.t);
  run(cuda::plan_gemm, cuda::launch_gemm, tensors, expression<T>(ending));
  const int64_t batch = lead.empty() ? 1 : lead[0];
  const auto read = [&](const Array<T>& t, int64_t s, int64_t i, int64_t j) {
    return lead.empty() ? t.at({i, j}) : t.at({s, i, j});
  };
  for (int64_t s = 0; s < batch; ++s) {
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        S sum = 0;
        for (int64_t l = 0; l < k; ++l) sum += S(read(a, s, i, l)) * S(read(b, s, l, j));
        const S extra = ending == Ending::none ? S(0) : S(read(x, s, i, j)), both = sum + extra;
        CHECK(S(read(y, s, i, j)) == S(T(ending == Ending::none ? sum : both < 0 ? S(0) : both)));
        if (ending == Ending::two) CHECK(S(read(z, s, i, j)) == S(T(sum - extra)));
      }
    }
  }
}

struct Geometry {
  int64_t batch, groups, channels, filters;  // of a group
  int64_t in[2], out[2], taps[2], stride[2], dilation[2], pad[2];
};

static Geometry any_geometry() {
  Geometry g{any(1, 4), 1, any(1, 20), any(1, 40), {}, {}, {}, {}, {}, {}};
  const int64_t kind = any(0, 3);
  if (kind == 0) g.groups = any(2, 3);
  if (kind == 1) g.groups = g.channels + 1, g.channels = 1, g.filters = any(1, 2);
  if (kind == 2) g.channels *= 4, g.filters *= 4;
  for (int d = 0; d < 2; ++d) {
    g.taps[d] = any(1, 3), g.stride[d] = any(1, 3), g.dilation[d] = any(1, 2), g.pad[d] = any(0, 2);
    const int64_t span = (g.taps[d] - 1) * g.dilation[d] + 1;
    g.in[d] = span + any(0, 12);
    g.out[d] = (g.in[d] + 2 * g.pad[d] - span) / g.stride[d] + 1;
  }
  return g;
}

// visit(n, group, p, q, r, s, h, w) for each product of a pixel and a tap inside of the image.
template <class F>
static void for_products(const Geometry& g, F visit) {
  for (int64_t n = 0; n < g.batch; ++n)
    for (int64_t group = 0; group < g.groups; ++group)
      for (int64_t p = 0; p < g.out[0]; ++p)
        for (int64_t q = 0; q < g.out[1]; ++q)
          for (int64_t r = 0; r < g.taps[0]; ++r)
            for (int64_t s = 0; s < g.taps[1]; ++s) {
              const int64_t h = p * g.stride[0] - g.pad[0] + r * g.dilation[0];
              const int64_t w = q * g.stride[1] - g.pad[1] + s * g.dilation[1];
              const bool inside = h >= 0 && h < g.in[0] && w >= 0 && w < g.in[1];
              if (inside) visit(n, group, p, q, r, s, h, w);
            }
}

template <class T>
static void test_conv(Task task, const Geometry& g) {
  const int64_t all = g.groups * g.channels, results = g.groups * g.filters;
  const Order order = any(0, 4) ? Order::plain : Order::swapped;
  Array<T> x({g.batch, g.in[0], g.in[1], all}, order),
      w({g.taps[0], g.taps[1], g.channels, results});
  Array<T> y({g.batch, g.out[0], g.out[1], results}, order);
  Array<T>& out = task == Task::forward ? y : task == Task::input_grad ? x : w;
  using S = Computed<T>;
  std::vector<S> wanted(out.memory.size(), S(0));
  const auto place = [](const Tensor& t, int64_t a, int64_t b, int64_t c, int64_t d) {
    return static_cast<size_t>(a * t.stride[0] + b * t.stride[1] + c * t.stride[2] +
                               d * t.stride[3]);
  };
  for_products(g, [&](int64_t n, int64_t group, int64_t p, int64_t q, int64_t r, int64_t s,
                      int64_t h, int64_t v) {
    for (int64_t c = 0; c < g.channels; ++c) {
      for (int64_t k = group * g.filters; k < (group + 1) * g.filters; ++k) {
        const size_t at_x = place(x.t, n, h, v, group * g.channels + c);
        const size_t at_w = place(w.t, r, s, c, k), at_y = place(y.t, n, p, q, k);
        const S vx(x.memory[at_x]), vw(w.memory[at_w]), vy(y.memory[at_y]);
        if (task == Task::forward) wanted[at_y] += vx * vw;
        if (task == Task::input_grad) wanted[at_x] += vy * vw;
        if (task == Task::filter_grad) wanted[at_w] += vx * vy;
      }
    }
  });
  const bool adds = any(0, 1);  // relu(result + result as it was), in place
  for (size_t i = 0; adds && i < wanted.size(); ++i) {
    const S sum = wanted[i] + S(out.memory[i]);
    wanted[i] = sum < 0 ? S(0) : sum;
  }
  std::vector<int64_t> ints{2, g.groups};
  for (const int64_t* v : {g.stride, g.dilation, g.pad}) ints.insert(ints.end(), v, v + 2);
  if (adds) {
    const std::vector<int64_t> e = expression<T>(Ending::bias_relu);
    ints.insert(ints.end(), e.begin(), e.end());
  }
  std::vector<Tensor> tensors{out.t, task == Task::input_grad ? y.t : x.t,
                              task == Task::filter_grad ? y.t : w.t};
  if (adds) tensors.push_back(out.t);
  constexpr Plan plans[] = {cuda::plan_conv, cuda::plan_conv_input_grad,
                            cuda::plan_conv_filter_grad};
  constexpr Launch launches[] = {cuda::launch_conv, cuda::launch_conv_input_grad,
                                 cuda::launch_conv_filter_grad};
  run(plans[int(task)], launches[int(task)], tensors, ints);
  for (size_t i = 0; i < wanted.size(); ++i) CHECK(S(out.memory[i]) == S(T(wanted[i])));
}

template <class T>
static void test_products(int n = 40) {
  for (int i = 0; i < n; ++i) {
    std::vector<int64_t> lead;
    if (any(0, 1)) lead = {any(1, 3)};
    test_gemm<T>(lead, any(0, 70), any(1, 70), any(0, 70));
  }
  test_gemm<T>({}, 40, 36, 1500);  // sums cut along k, where a lies transposed
  test_gemm<T>({}, 40, 36, 1503);
  test_gemm<T>({2}, 200, 100, 32);  // 64 x 64 tiles
  for (int i = 0; i < n; ++i) {
    const Geometry g = any_geometry();
    for (const Task task : {Task::forward, Task::input_grad, Task::filter_grad})
      test_conv<T>(task, g);
  }
}

// Tiles of tensor cores of all sizes: enough of them to fill a GPU.
template <class T>
static void test_tensor_tiles() {
  test_gemm<T>({kFullGpu / 2}, 66, 72, 8);
  test_gemm<T>({kFullGpu / 2}, 70, 73, 90);
  test_gemm<T>({kFullGpu}, 65, 136, 72);
}

// The kernels for Hopper: halves but where both operands lie across k, tf32 where the left one lies
// along it.
template <class T>
static void test_hopper(int n) {
  using namespace dl::cuda;
  constexpr int64_t V = 16 / sizeof(T);  // rows lie at multiples of 16 bytes
  hopper_use = HopperUse::always;
  for (int i = 0; i < 4 * n; ++i) {
    const std::vector<int64_t> lead(any(0, 1), 2);
    const int64_t cols = i / 2 % 2 ? any(1, 140) : V * any(1, 264 / V);
    test_gemm<T>(lead, V * any(1, 140 / V), cols, V * any(1, 600 / sizeof(T) / V), Order(i % 2),
                 Order(i / 2 % 2));
  }
  CHECK(hopper_products.exchange(0) == (sizeof(T) == 2 ? 3 * n : 2 * n));
  hopper_use = HopperUse::large;
}

// They are chosen for enough tiles that are well filled.
static void test_choice_of_hopper() {
  using namespace dl::cuda;
  const auto test = [](int64_t tiles, int64_t n, int64_t k) {
    test_gemm<Bf16>({tiles}, 100, n, k, Order::plain, Order::plain);
    return hopper_products.exchange(0) == 1;
  };
  CHECK(test(kEnoughTiles, 200, 256));
  CHECK(!test(kEnoughTiles - 1, 200, 256));
  CHECK(!test(kEnoughTiles, 104, 256));
  CHECK(!test(kEnoughTiles, 200, 248));
}

// Rounding of halves: all of them there and back, ties to even, and what is too large or small.
template <class T>
static void test_half() {
  for (int bits = 0; bits < 1 << 16; ++bits) {
    T x;
    x.bits = static_cast<uint16_t>(bits);
    const float value = x;
    CHECK(value == value ? T(value).bits == bits : T(value) != T(value));
    if (bits >= 0x7fff) continue;
    T above = x;
    ++above.bits;
    if (!std::isfinite(value) || !std::isfinite(float(above))) continue;
    const float middle = static_cast<float>((double(value) + double(float(above))) / 2);
    CHECK(T(middle).bits == (bits % 2 ? above.bits : bits));
    CHECK(T(std::nextafter(middle, value)).bits == bits);
    CHECK(T(std::nextafter(middle, float(above))).bits == above.bits);
  }
  CHECK(std::isinf(float(T(HUGE_VALF))) && float(T(-HUGE_VALF)) < 0);
  CHECK(std::isinf(float(T(3e38f))) == (std::is_same_v<T, F16>));
}

int main() {
  test_half<Bf16>();
  test_half<F16>();
  test_products<Bf16>();
  test_products<F16>(12);
  test_tensor_tiles<Bf16>();
  test_hopper<Bf16>(3);
  test_hopper<F16>(1);
  test_choice_of_hopper();
  dl::cuda::tf32_products = true;
  test_products<float>(20);
  test_tensor_tiles<float>();
  test_hopper<float>(3);
  dl::cuda::tf32_products = false;
  test_products<float>();
  test_products<double>();
  for (int i = 0; i < 6; ++i)
    test_gemm<float>({kEnoughTiles}, 68, 72 + 4 * i, 20 * i);  // 128 x 128 tiles
}
