// random: out = uniform in [low, high), normal(mean, stddev) or bernoulli(p), from Philox words.
//
//   block b     philox(b, stream, step, seed) of common/philox.h, step = counter[0] modulo 2^32
//   uniform     low + t (high - low), kept below high where the sum rounds up
//       f32     t = (w >> 8) 2^-24 of word i % 4 of block i / 4
//       f64     t = ((w >> 5) 2^26 + (w' >> 6)) 2^-53 of words 2 (i % 2) and on of block i / 2
//   normal      mean + stddev sqrt(-2 log u) (cos, sin)(2 pi v) for the elements 2 j and 2 j + 1
//               (Box and Muller 1958)
//       f32     u = (w + 1/2) 2^-32 of word 2 (j % 2), v = t of the next word, of block j / 2
//       f64     u = (53 bits + 1/2) 2^-53 of words 0 and 1, v = t of words 2 and 3, of block j
//   bernoulli   w < p 2^32 for word i % 4 of block i / 4, for every dtype
//
// Uniform and bernoulli have the same bits at every level and in dlcore/ops/philox.py: products are
// exact, or are rounded before the sum. A chunk of blocks is made at a time, in vectors over
// blocks.
#include <type_traits>

#include "common/random.h"
#include "cpu/kernels/level.h"
#include "cpu/math.h"
#include "cpu/philox_lanes.h"
#include "cpu/rows.h"

namespace dl::DL_LEVEL {

namespace {

constexpr int kChunkBlocks = 64;
constexpr int64_t kPartElements = 1 << 14;  // 5 to 20 us of work; a multiple of every chunk

struct Words {
  uint32_t word[4][kChunkBlocks];
};

struct Stream {
  uint64_t seed;
  uint32_t stream, step;
};

// `first` is a multiple of kChunkBlocks: the high half of its index is that of the whole chunk.
void make_words(const Stream& s, uint64_t first, Words& out) {
  constexpr int n = kLanes<uint64_t>, kChains = 2;
  Vec<uint64_t> block;
  for (int i = 0; i < n; ++i) block[i] = (first & 0xFFFFFFFF) + i;
  for (int b = 0; b < kChunkBlocks; b += kChains * n) {
    Vec<uint64_t> c[kChains][4];
    for (int j = 0; j < kChains; ++j) {
      c[j][0] = block + static_cast<uint64_t>(b + j * n);
      c[j][1] = broadcast<uint64_t>(first >> 32);
      c[j][2] = broadcast<uint64_t>(s.stream);
      c[j][3] = broadcast<uint64_t>(s.step);
    }
    philox_rounds<PhiloxLanes>(c, s.seed);
    for (int j = 0; j < kChains; ++j) {
      for (int k = 0; k < 4; ++k) store_words(&out.word[k][b + j * n], c[j][k]);
    }
  }
}

int32_t top24(uint32_t word) { return static_cast<int32_t>(word >> 8); }

double top53(uint32_t u, uint32_t v) {  // an integer below 2^53
  return static_cast<int32_t>(u >> 5) * 0x1p26 + static_cast<int32_t>(v >> 6);
}

struct Range {
  double low, scale, below_high;
};

// scale, the width of the range, has the bits of T: f32's products are then exact in double.
template <class T>
Range make_range(const double* floats) {
  const T low = static_cast<T>(floats[0]), high = static_cast<T>(floats[1]);
  const double width = static_cast<T>(static_cast<double>(high) - low);
  const T below = sizeof(T) == 4 ? __builtin_nextafterf(high, low) : __builtin_nextafter(high, low);
  return {low, width, below};
}

void uniform(const Words& w, const Range& r, float* out) {
  const double scale = r.scale * 0x1p-24;
  const float top = static_cast<float>(r.below_high);
  for (int b = 0; b < kChunkBlocks; ++b) {
    for (int k = 0; k < 4; ++k) {
      const float x = static_cast<float>(top24(w.word[k][b]) * scale + r.low);
      out[4 * b + k] = x < top ? x : top;
    }
  }
}

void uniform(const Words& w, const Range& r, double* out) {
  int64_t zero = 0;
  __asm__(""
          : "+r"(zero));  // unknown to the compiler, which else may fuse product and sum at some
                          // levels only
  for (int b = 0; b < kChunkBlocks; ++b) {
    for (int k = 0; k < 2; ++k) {
      const double product = top53(w.word[2 * k][b], w.word[2 * k + 1][b]) * 0x1p-53 * r.scale;
      const double rounded =
          __builtin_bit_cast(double, __builtin_bit_cast(int64_t, product) ^ zero);
      const double x = rounded + r.low;
      out[2 * b + k] = x < r.below_high ? x : r.below_high;
    }
  }
}

// u in (0, 1], v in [0, 1): one pair for two elements.
int uniform_pairs(const Words& w, float* u, float* v) {
  for (int half = 0; half < 2; ++half) {
    for (int b = 0; b < kChunkBlocks; ++b) {
      u[half * kChunkBlocks + b] = (static_cast<float>(w.word[2 * half][b]) + 0.5f) * 0x1p-32f;
      v[half * kChunkBlocks + b] = top24(w.word[2 * half + 1][b]) * 0x1p-24f;
    }
  }
  return 2;
}

int uniform_pairs(const Words& w, double* u, double* v) {
  for (int b = 0; b < kChunkBlocks; ++b) {
    u[b] = (top53(w.word[0][b], w.word[1][b]) + 0.5) * 0x1p-53;
    v[b] = top53(w.word[2][b], w.word[3][b]) * 0x1p-53;
  }
  return 1;
}

template <class T>
void normal(const Words& w, T mean, T stddev, T* out) {
  constexpr double kTwoPi = 6.283185307179586;
  T u[2 * kChunkBlocks], v[2 * kChunkBlocks];
  const int pairs = uniform_pairs(w, u, v);  // of a block
  for (int i = 0; i < pairs * kChunkBlocks; i += kLanes<T>) {
    const Vec<T> radius = stddev * square_root<T>(static_cast<T>(-2) * log<T>(load(u + i)));
    const Vec<T> angle = static_cast<T>(kTwoPi) * load(v + i);
    store(u + i, mean + radius * cos<T>(angle));
    store(v + i, mean + radius * sin<T>(angle));
  }
  for (int b = 0; b < kChunkBlocks; ++b) {
    for (int j = 0; j < pairs; ++j) {
      out[2 * (pairs * b + j)] = u[j * kChunkBlocks + b];
      out[2 * (pairs * b + j) + 1] = v[j * kChunkBlocks + b];
    }
  }
}

template <class T>
void bernoulli(const Words& w, double p, T* out) {
  const uint32_t last = last_of(p);
  const T yes = p > 0;
  for (int b = 0; b < kChunkBlocks; ++b) {
    for (int k = 0; k < 4; ++k) out[4 * b + k] = w.word[k][b] <= last ? yes : T(0);
  }
}

template <class T>
void fill_chunk(const Call& call, const Range& range, const Words& w, T* out) {
  const double* f = call.floats;
  if constexpr (std::is_floating_point_v<T>) {
    if (call.ints[0] == kUniform) return uniform(w, range, out);
    if (call.ints[0] == kNormal) return normal(w, static_cast<T>(f[0]), static_cast<T>(f[1]), out);
  }
  bernoulli(w, f[0], out);
}

// Elements [begin, end); begin is a multiple of every chunk.
template <class T>
void fill(const Call& call, int64_t begin, int64_t end) {
  const Tensor& out = call.tensors[0];
  const Stream s{static_cast<uint64_t>(call.ints[1]), static_cast<uint32_t>(call.ints[2]),
                 static_cast<uint32_t>(*call.tensors[1].as<int64_t>())};
  const int per_block = sizeof(T) == 8 && call.ints[0] != kBernoulli ? 2 : 4;
  const int64_t chunk = kChunkBlocks * per_block;
  const bool dense = is_dense(out, 0, out.rank);
  Range range{};
  if constexpr (std::is_floating_point_v<T>) {
    if (call.ints[0] == kUniform) range = make_range<T>(call.floats);
  }
  Words words;
  T buffer[4 * kChunkBlocks];
  for (int64_t i = begin; i < end; i += chunk) {
    const int64_t n = end - i < chunk ? end - i : chunk;
    make_words(s, i / per_block, words);
    if (dense && n == chunk) {
      fill_chunk(call, range, words, out.as<T>() + i);
      continue;
    }
    fill_chunk(call, range, words, buffer);
    if (dense) {
      std::memcpy(out.as<T>() + i, buffer, n * sizeof(T));
      continue;
    }
    for (int64_t j = 0; j < n; ++j) out.as<T>()[offset(out, 0, out.rank, i + j)] = buffer[j];
  }
}

}  // namespace

const char* plan_random(const Call& call, Work& work) {
  if (const char* wrong = check_random(call)) return wrong;
  const Tensor& out = call.tensors[0];
  const int64_t n = count(out, 0, out.rank);
  work.parts[0] = n <= kPartElements ? 1 : (n + kPartElements - 1) / kPartElements;
  work.flops = static_cast<double>(n) * (call.ints[0] == kNormal ? 80 : 30);
  work.bytes = static_cast<double>(n) * size_of(out.dtype);
  return nullptr;
}

void run_random(const Call& call, int, int64_t begin, int64_t end, char*) {
  const Tensor& out = call.tensors[0];
  const int64_t n = count(out, 0, out.rank);
  const int64_t first = begin * kPartElements,
                last = end * kPartElements < n ? end * kPartElements : n;
  switch (out.dtype) {
    case DType::f32:
      return fill<float>(call, first, last);
    case DType::f64:
      return fill<double>(call, first, last);
    case DType::i32:
      return fill<int32_t>(call, first, last);
    case DType::i64:
      return fill<int64_t>(call, first, last);
    default:
      return fill<uint8_t>(call, first, last);
  }
}

}  // namespace dl::DL_LEVEL
