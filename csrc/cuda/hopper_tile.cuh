// The tile core of products on Hopper's tensor cores: C (128 x 256 of it at a time) = X Y, where X
// is A and Y is B; or, transposed, X is B and Y is A. Of a block's three warpgroups
//
//   the first    one thread: for each tile, for each 128 bytes of k: waits until a stage is empty,
//                lets the copy engine fill it
//   the others   64 rows of X each: wait until a stage is full, multiply four times 32 bytes of k,
//                tell that the stage before is empty; at the end of a tile store the sums, while
//                stages fill
//
// The hardware reads halves from shared memory whichever way they lie, but tf32 only along k. A
// float X that lies across goes through registers; so the product of two matrices in C's order is
// made transposed. Floats are rounded to tf32 by the copy engine.
#pragma once

#include "cuda/gemm.cuh"
#include "cuda/hopper.cuh"

namespace dl::cuda {

constexpr int kConsumers = 2, kThreads = (1 + kConsumers) * kWarpgroup;
constexpr int kConsumerWarps = kConsumers * kWarpgroup / kWarp;
constexpr int kX = kConsumers * kWgmmaRows, kY = kWgmmaCols;  // of a tile
constexpr int kSteps = 4;                                     // products of 32 bytes of k
constexpr int kStageBytes = (kX + kY) * 128, kMostStages = 4, kLeastStages = 3;
constexpr int kBarrierBytes = 2 * kMostStages * 8;
constexpr size_t kAllShared = 227 * 1024;  // of a block

// A part of a warp's sums on its way to memory: 16 x by 32 y; the padding puts what a warp stores
// at once into different banks.
constexpr int kPartY = 32, kPartFloats = 16 * (kPartY + 8);
constexpr int kWidth = 4;  // columns of a pack
constexpr int kPartsBytes = kConsumerWarps * kPartFloats * 4;

// Which way operands lie. kTransposed: X is B.
template <class Element, bool kXAcross, bool kYAcross>
struct HopperTile {
  using E = Element;
  static constexpr bool kAcrossX = kXAcross, kAcrossY = kYAcross;
  static constexpr bool kTransposed = sizeof(E) == 4 && kXAcross;
  static constexpr int kDepth = 128 / sizeof(E), kRun = 128 / sizeof(E);  // of k, of x across
  static constexpr int kRows = kTransposed ? kY : kX, kCols = kTransposed ? kX : kY;
  // Tiles of a column that run together: with as many columns, those of an H100 read the least.
  static constexpr int kBand = 2048 / kRows;
  static_assert(sizeof(E) == 2 || !kYAcross);
};

struct HopperGemm {
  CUtensorMap x, y;
  Gemm g;
  int batches, stages;
  bool x_repeats, y_repeats;  // the same matrix for all of the batch
};

static_assert(sizeof(HopperGemm) + sizeof(Results) <= 8192);

// Places in shared memory.
struct Stages {
  SharedAddress first, barriers;
  int count;

  __device__ SharedAddress x(int stage) const { return first + stage * kStageBytes; }
  __device__ SharedAddress y(int stage) const { return x(stage) + kX * 128; }
  __device__ SharedAddress full(int stage) const { return barriers + stage * 8; }
  __device__ SharedAddress empty(int stage) const { return full(kMostStages + stage); }
};

// Where a warpgroup is in its round of the stages.
struct Turn {
  int stage = 0, parity = 0;

  __device__ void next(int stages) {
    if (++stage < stages) return;
    stage = 0, parity ^= 1;
  }
};

template <class C>
__device__ inline int steps_of(const Gemm& g, const TilePlace& p) {
  const int64_t depth = min(g.part_k, g.k - p.part * g.part_k);
  return static_cast<int>((depth + C::kDepth - 1) / C::kDepth);
}

// ---- the warpgroup that copies ----

template <class C, bool kAcross, int kExtent>
__device__ inline void copy_tile(SharedAddress to, const CUtensorMap& map, SharedAddress barrier,
                                 int x, int k, int batch) {
  if constexpr (kAcross) {
#pragma unroll
    for (int i = 0; i < kExtent / C::kRun; ++i)
      copy_box(to + i * C::kDepth * 128, map, barrier, x + i * C::kRun, k, batch);
  } else {
    copy_box(to, map, barrier, k, x, batch);
  }
}

template <class C>
__device__ inline void copy_tiles(const HopperGemm& h, const Stages& stages, unsigned tiles) {
  Turn turn;
  for (unsigned tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    const TilePlace p = place_of<C::kBand>(h.g, tile);
    const int x = (C::kTransposed ? p.col : p.row) * kX, y = (C::kTransposed ? p.row : p.col) * kY;
    const int first = static_cast<int>(p.part * h.g.part_k), steps = steps_of<C>(h.g, p);
    const int batch = static_cast<int>(p.batch);
#pragma unroll 1
    for (int step = 0; step < steps; ++step, turn.next(stages.count)) {
      const SharedAddress full = stages.full(turn.stage);
      const int k = first + step * C::kDepth;
      wait_phase(stages.empty(turn.stage), turn.parity ^ 1);
      arrive_and_expect(full, kStageBytes);
      copy_tile<C, C::kAcrossX, kX>(stages.x(turn.stage), h.x, full, x, k, h.x_repeats ? 0 : batch);
      copy_tile<C, C::kAcrossY, kY>(stages.y(turn.stage), h.y, full, y, k, h.y_repeats ? 0 : batch);
    }
  }
}

// ---- those that multiply ----

// How far it is to the next eight k, and to the next run of x, of an operand that lies across.
template <class C>
__device__ inline uint64_t describe(SharedAddress at, bool across) {
  return describe_matrix(at, across ? C::kDepth * 128 : 16, kSwizzleBytes);
}

// Words of tf32 of X, which lies across: runs of 32 x, of each a row of 128 bytes for each k. Two
// warps share a run: row g + 8 h of warp w is x = 16 (g / 4) + 8 (w % 2) + 4 h + g % 4 of it, so
// that what the lanes of a warp read at once lies in all banks.
struct FloatsAcross {
  int at[2], flip;  // of rows g and g + 8, at k = t

  __device__ explicit FloatsAcross(int group) {
    const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp % 4;
    const int g = lane / 4, t = lane % 4;
    const int row = (group * 2 + warp / 2) * (32 * 128) + t * 128 + g % 4 * 4;
    const int chunk = g / 4 * 4 + warp % 2 * 2;
    at[0] = row + (chunk ^ t) * 16;
    at[1] = row + ((chunk + 1) ^ t) * 16;
    flip = 4 * 16;  // of k + 4, whose rows are swizzled by 4 + t
  }
  __device__ void load(SharedAddress tile, int step, uint32_t (&x)[4]) const {
#pragma unroll
    for (int q = 0; q < 4; ++q)
      x[q] =
          load_shared(tile + (q < 2 ? at[q % 2] : at[q % 2] ^ flip) + (step * 8 + q / 2 * 4) * 128);
  }
};

template <class C>
__device__ inline void multiply_stage(const Stages& stages, int stage, int group,
                                      float (&sum)[kSums]) {
  constexpr int kXStep = C::kAcrossX ? C::kDepth / kSteps * 128 : 32;
  constexpr int kYStep = C::kAcrossY ? C::kDepth / kSteps * 128 : 32;
  const uint64_t x = describe<C>(stages.x(stage) + group * (kWgmmaRows * 128), C::kAcrossX);
  const uint64_t y = describe<C>(stages.y(stage), C::kAcrossY);
  begin_products();
#pragma unroll
  for (int k = 0; k < kSteps; ++k)
    multiply_group<typename C::E, C::kAcrossX, C::kAcrossY>(sum, moved(x, k * kXStep),
                                                            moved(y, k * kYStep));
  end_products();
}

// Half of a stage with X by registers, which stay as they are until its products are done.
template <class C, int kHalf>
__device__ inline void multiply_half(const Stages& stages, int stage, const FloatsAcross& from,
                                     uint32_t (&x)[kSteps][4], float (&sum)[kSums]) {
  constexpr int kFirst = kHalf * kSteps / 2, kEnd = kFirst + kSteps / 2;
  const uint64_t y = describe<C>(stages.y(stage), false);
#pragma unroll
  for (int k = kFirst; k < kEnd; ++k) from.load(stages.x(stage), k, x[k]);
  begin_products();
#pragma unroll
  for (int k = kFirst; k < kEnd; ++k) multiply_group(sum, x[k], moved(y, k * 32));
  end_products();
}

// By all lanes of a warp that are done with a stage.
__device__ inline void give_back(const Stages& stages, int stage) {
  __syncwarp();
  if (threadIdx.x % kWarp == 0) arrive(stages.empty(stage));
}

template <class C>
__device__ inline void sum_tile(const Stages& stages, Turn& turn, int steps, int group,
                                float (&sum)[kSums]) {
  constexpr bool kByRegisters = C::kTransposed;
  const FloatsAcross from(group);
  uint32_t x[kSteps][4];
#pragma unroll
  for (int i = 0; i < kSums; ++i) sum[i] = 0;
  int before = -1;
#pragma unroll 1
  for (int step = 0; step < steps; ++step) {
    wait_phase(stages.full(turn.stage), turn.parity);
    if constexpr (kByRegisters) {
      multiply_half<C, 0>(stages, turn.stage, from, x, sum);
    } else {
      multiply_stage<C>(stages, turn.stage, group, sum);
    }
    wait_products<1>();
    if (before >= 0) give_back(stages, before);
    before = turn.stage;
    if constexpr (kByRegisters) {
      multiply_half<C, 1>(stages, turn.stage, from, x, sum);
      wait_products<1>();
    }
    turn.next(stages.count);
  }
  wait_products<0>();
  use_sums(sum);
  if (before >= 0) give_back(stages, before);
}

// ---- what becomes of the sums ----

// Part `part` of a warp's sums, rows of C one behind the other: 16 x 32 or, transposed, 32 x 16.
template <class C>
struct PartShape {
  static constexpr int kRows = C::kTransposed ? kPartY : 16, kCols = C::kTransposed ? 16 : kPartY;
  static constexpr int kStep = C::kTransposed ? 20 : kPartY + 8;
  static_assert(kRows * kStep <= kPartFloats);

  // Column of C, from a warp's first on, of place c in a row: see FloatsAcross.
  __device__ static int column(int c) {
    return C::kTransposed ? c % 8 / 4 * 16 + c / 8 * 4 + c % 4 : c;
  }
};

template <class C>
__device__ inline void put_sums(const float* sum, float* shared) {
  constexpr int kStep = PartShape<C>::kStep;
  const int lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;
#pragma unroll
  for (int j = 0; j < kPartY / 8; ++j) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float a = sum[4 * j + 2 * half], b = sum[4 * j + 2 * half + 1];
      const int x = g + 8 * half, y = 8 * j + 2 * t;
      if constexpr (C::kTransposed) {
        shared[y * kStep + x] = a, shared[(y + 1) * kStep + x] = b;
      } else {
        *reinterpret_cast<Pack<float, 2>*>(shared + x * kStep + y) = {{a, b}};
      }
    }
  }
}

// `tile` is what the part holds of C.
template <class C>
__device__ inline void store_simple_sums(const Results& r, const float* sums, TileSpan tile) {
  using Shape = PartShape<C>;
  constexpr int V = kWidth, kPacks = Shape::kCols / V, kRowStep = kWarp / kPacks;
  const Results::Place &y = r.place[0], &extra = r.place[r.extra];
  const int lane = threadIdx.x % kWarp, first = lane / kPacks, c = lane % kPacks * V;
  const int64_t row = tile.row + first, col = tile.col + Shape::column(c), left = tile.end - col;
  int64_t at = row * y.stride[0] + col * y.stride[kRowAxes];
  int64_t from = row * extra.stride[0] + col * extra.stride[kRowAxes];
  if (left <= 0) return;
#pragma unroll
  for (int s = first; s < Shape::kRows; s += kRowStep) {
    if (s >= tile.rows) return;
    Pack<float, V> pack = *reinterpret_cast<const Pack<float, V>*>(sums + s * Shape::kStep + c);
    if (r.store != Store::plain)
      pack = finish_simple(r.store, pack, load_columns<float, V>(extra, from, left));
    store_columns<float, V>(y, at, left, pack);
    at += kRowStep * y.stride[0], from += kRowStep * extra.stride[0];
  }
}

template <class C>
__device__ __attribute__((noinline)) void evaluate_sums(const Results& r, const float* sums,
                                                        TileSpan tile, void* registers) {
  using Shape = PartShape<C>;
  constexpr int V = kWidth, kPacks = Shape::kCols / V, kOthers = kConsumerWarps * kWarp;
  auto* own = static_cast<Pack<float, V>*>(registers) + (threadIdx.x - kWarpgroup);
  for (int i = threadIdx.x % kWarp; i < Shape::kRows * kPacks; i += kWarp) {
    const int s = i / kPacks, c = i % kPacks * V;
    const int64_t col = tile.col + Shape::column(c);
    if (s >= tile.rows || col >= tile.end) continue;
    store_sums<float, V>(r, *reinterpret_cast<const Pack<float, V>*>(sums + s * Shape::kStep + c),
                         tile.row + s, col, tile.end, own, kOthers);
  }
}

// Part after part, by code that is there once: only what reads registers is for each part.
template <class C>
__device__ inline void store_sums_of_tile(const HopperGemm& h, const Results& r, const TilePlace& p,
                                          int group, char* parts, const float (&sum)[kSums]) {
  const int warp = threadIdx.x / kWarp % 4;
  const int x = group * kWgmmaRows + (C::kTransposed ? warp / 2 * 32 + warp % 2 * 8 : warp * 16);
  float* shared = reinterpret_cast<float*>(parts) + (group * 4 + warp) * kPartFloats;
  const TileSpan whole = span_of<C>(h.g, p, h.batches);
#pragma unroll 1
  for (int part = 0; part < kY / kPartY; ++part) {
    const int row = C::kTransposed ? part * kPartY : x, col = C::kTransposed ? x : part * kPartY;
    const TileSpan tile{whole.row + row, whole.col + col, whole.end, whole.rows - row};
#pragma unroll
    for (int i = 0; i < kY / kPartY; ++i) {
      if (i == part) put_sums<C>(sum + i * (kPartY / 2), shared);
    }
    __syncwarp();
    if (r.simple) {
      store_simple_sums<C>(r, shared, tile);
    } else {
      evaluate_sums<C>(r, shared, tile, parts + kPartsBytes);
    }
    __syncwarp();
  }
}

}  // namespace dl::cuda
