// Operands of a product that are read where they lie in images and filters: element (x, k) is at
// offset(x) + offset(k), and is 0 if the sum of their positions lies outside of the image.
//
//   image    (n, h, w, c)   at pixel (n, p, q) and tap (r, s, c):  h = p stride - pad + r dilation
//
// A pixel and a tap are both an index of four digits, one of which is no position.
#pragma once

#include "cuda/tile.cuh"

namespace dl::cuda {

// Division by a constant, for 0 <= n < 2^31: with 2^s < d <= 2^(s+1) and m = ceil(2^(32+s) / d),
// m d - 2^(32+s) < d, so that n m / 2^(32+s) is less than 1 / d too large.
struct Divisor {
  uint32_t divisor, multiplier;
  int shift;

  static Divisor of(int64_t d) {
    int shift = -1;
    while (d > int64_t{1} << (shift + 1)) ++shift;
    if (d <= 1) return {1, 0, 0};
    const uint64_t m = ((uint64_t{1} << (32 + shift)) + d - 1) / d;
    return {static_cast<uint32_t>(d), static_cast<uint32_t>(m), shift};
  }
  __device__ uint32_t quotient(uint32_t n) const {
    return multiplier ? __umulhi(n, multiplier) >> shift : n;
  }
  // n becomes the quotient.
  __device__ uint32_t remainder(uint32_t& n) const {
    const uint32_t q = quotient(n), r = n - q * divisor;
    n = q;
    return r;
  }
};

struct Spot {
  int64_t offset;
  int at[3];
};

// Digits: three positions and one other, which counts fastest or slowest.
struct IndexMap {
  bool other_fastest;
  Divisor other, axis[3];
  int64_t other_stride, stride[3];
  int first[3], step[3];  // position of digit i: first + i * step

  __device__ Spot spot(uint32_t i) const {
    uint32_t digit[3], rest = 0;
    if (other_fastest) rest = other.remainder(i);
    digit[2] = axis[2].remainder(i);
    digit[1] = axis[1].remainder(i);
    digit[0] = other_fastest ? i : axis[0].remainder(i);
    if (!other_fastest) rest = i;
    Spot s{rest * other_stride, {}};
#pragma unroll
    for (int d = 0; d < 3; ++d) {
      s.offset += digit[d] * stride[d];
      s.at[d] = first[d] + static_cast<int>(digit[d]) * step[d];
    }
    return s;
  }
};

struct Gathered {
  const char* data;
  IndexMap x, k;
  int limit[3];     // positions from 0 to here are inside
  uint32_t extent;  // of x
  bool along_k;     // neighbours in k are loaded by one thread
  bool whole;       // as 16 bytes

  __device__ bool shows(const Spot& x, const Spot& k) const {
    bool all = true;
#pragma unroll
    for (int d = 0; d < 3; ++d)
      all &= static_cast<unsigned>(x.at[d] + k.at[d]) < static_cast<unsigned>(limit[d]);
    return all;
  }
};

template <class C, int kExtent>
class GatherLoader {
  using T = typename C::Type;
  static constexpr int V = C::kVector, N = Units<C, kExtent>::kCount;

 public:
  static constexpr int kStep = kExtent + V;

  __device__ GatherLoader(const Gathered& g, int64_t offset, uint32_t first_x, uint32_t first_k)
      : g_(g), units_(g.along_k), data_(reinterpret_cast<const T*>(g.data) + offset) {
    const uint32_t last = g.extent - (g.whole && !g.along_k ? V : 1);  // others are not used
    x_ = min(first_x + units_.x, last);
    spot_ = g.x.spot(x_);
    k_ = first_k + units_.k;
  }

  __device__ void fetch(int valid) {
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const int k = i * units_.k_step, left = valid - units_.k - k;
      if (g_.whole) {
        fetch_whole(left > 0, k_ + k, r_ + i * V);
      } else if (g_.along_k) {
#pragma unroll
        for (int v = 0; v < V; ++v)
          r_[i * V + v] = v < left ? element(spot_, g_.k.spot(k_ + k + v)) : T(0);
      } else {
        const Spot s = g_.k.spot(k_ + k);
#pragma unroll
        for (int v = 0; v < V; ++v)
          r_[i * V + v] = left > 0 ? element(g_.x.spot(min(x_ + v, g_.extent - 1)), s) : T(0);
      }
    }
    k_ += valid;
  }
  __device__ void put(T* shared) { put_units<C, kExtent>(units_, g_.along_k, kStep, r_, shared); }

 private:
  __device__ T element(const Spot& x, const Spot& k) const {
    return g_.shows(x, k) ? data_[x.offset + k.offset] : T(0);
  }
  __device__ void fetch_whole(bool wanted, uint32_t k, T* to) const {
    const Spot s = g_.k.spot(k);
    if (wanted && g_.shows(spot_, s)) {
      read_run<T, V>(data_ + spot_.offset + s.offset, to);
    } else {
#pragma unroll
      for (int v = 0; v < V; ++v) to[v] = T(0);
    }
  }

  const Gathered& g_;
  const Units<C, kExtent> units_;
  const T* data_;
  uint32_t x_, k_;
  Spot spot_;
  alignas(16) T r_[N * V];
};

}  // namespace dl::cuda
