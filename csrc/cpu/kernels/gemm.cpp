// out = f(a @ b, extra inputs...), batched, with any strides.
//
//   for each group of columns of C                     (512 bytes wide)
//     for each block of k                              B's block of the group stays in L2, packed
//     if its rows are
//       for each strip of rows                         A's strip stays in L1           far apart or
//       it is transposed
//         for each register tile of the group          sums in registers; epilogue in registers or
//         on a block in L1
//
// Small and middle sizes read both operands in place: copying costs more than it gains until rows
// are a page apart or B outgrows L2. Few rows have their first strip copy B while it multiplies.
// Large sizes copy B, and with 16 registers A too; then a block of A in L2 passes by each panel of
// B in L1. Sums wait in C (or in scratch) between blocks of k, so each output is one chain over k
// for any shape, cut and number of threads, and a row of a batch has the same bits as that row
// alone.
#include "common/gemm.h"
#include "cpu/kernels/gemm_pack.h"
#include "cpu/kernels/gemm_plan.h"
#include "cpu/kernels/level.h"

namespace dl::DL_LEVEL {

namespace {

int64_t strides_offset(const Product& p, const Call& call, const Tensor& t, int64_t batch) {
  int64_t at = 0;
  for (int d = p.batch_axes - 1; d >= 0; --d) {
    at += batch % call.tensors[0].shape[d] * t.stride[d];
    batch /= call.tensors[0].shape[d];
  }
  return at;
}

// How scratch is laid out, in elements.
struct Layout {
  int64_t panel, tail, rows, sums, turned, bias, registers, total;
};

template <class T>
Layout lay_out(const Product& p) {
  constexpr int64_t L = kLanes<T>;
  const int64_t group = round_up(least(p.group, most(p.n, 1)), L);
  const int64_t block = most(block_sums(p), p.height * group);
  int64_t registers = 0;
  if (p.evaluates || p.store == Store::relu_grad) {
    const int64_t side =
        most(block_rows(p, L), group);  // no block has more rows, or columns when turned
    registers = register_elements<T>(p.expression, side, ceil_div(block, side));
  }
  const bool waits = p.k > p.k_step && !p.sums_in_c;
  Layout at{};
  auto take = [&at](int64_t elements) {
    const int64_t start = at.total;
    at.total += round_up(elements, 64 / sizeof(T));
    return start;
  };
  at.panel = take(p.pack_b ? p.k_step * group : 0);
  at.tail = take(p.pack_b || p.n % L == 0 ? 0 : p.k_step * p.width * L);
  at.rows = take(p.pack_a ? p.k_step * least(p.packed_rows, round_up(p.m, p.height)) : 0);
  at.sums = take(p.direct && p.n % L == 0 ? 0
                 : waits                  ? most(block, least(p.row_limit, p.m) * group)
                                          : block);
  at.turned = take(p.evaluates && p.swap ? block : 0);
  at.bias = take(p.n % L ? group : 0);
  at.registers = take(registers);
  return at;
}

// One matrix of the batch, by one thread.
template <class T>
class Multiplier {
 public:
  Multiplier(const Call& call, const Product& p, char* scratch)
      : call_(call), p_(p), at_(lay_out<T>(p)) {
    base_ = reinterpret_cast<T*>(scratch);
  }

  void select(int64_t batch) {
    batch_ = batch;
    a_ = p_.a->as<const T>() + strides_offset(p_, call_, *p_.a, batch);
    b_ = p_.b->as<const T>() + strides_offset(p_, call_, *p_.b, batch);
    c_ = call_.tensors[0].as<T>() + strides_offset(p_, call_, call_.tensors[0], batch);
    if (p_.store != Store::plain) {
      const Tensor& x = call_.tensors[p_.extra];
      extra_ = x.as<const T>() + strides_offset(p_, call_, x, batch);
    }
  }

  // Rows [i0, i1) and columns [j0, j1) of C.
  void rectangle(int64_t i0, int64_t i1, int64_t j0, int64_t j1) {
    for (; j0 < j1; j0 += cols_) {
      j0_ = j0;
      cols_ = least(p_.group, j1 - j0);
      padded_ = round_up(cols_, L);
      direct_ = p_.direct && padded_ == cols_;
      begin_group();
      for (int64_t i = i0; i < i1; i = i_end_) {
        i_begin_ = i;
        i_end_ = p_.row_limit < i1 - i ? i + p_.row_limit : i1;
        k0_ = 0;
        do {
          k1_ = least(p_.k, k0_ + p_.k_step);
          k_block();
          k0_ = k1_;
        } while (k0_ < p_.k);
      }
    }
  }

 private:
  static constexpr int64_t L = kLanes<T>;

  void begin_group() {
    store_ = direct_ || p_.store == Store::bias || p_.store == Store::bias_relu ? p_.store
                                                                                : Store::plain;
    evaluates_ = p_.has_expression && (p_.evaluates || store_ != p_.store);
    bias_ = store_ == Store::plain ? nullptr : extra_ + j0_;
    if (bias_ && padded_ != cols_) {
      copy_run(base_ + at_.bias, bias_, cols_);
      for (int64_t j = cols_; j < padded_; ++j) base_[at_.bias + j] = 0;
      bias_ = base_ + at_.bias;
    }
    if (evaluates_) {
      const int64_t rows = block_rows(p_, padded_);
      prepare(p_.expression, p_.swap ? cols_ : rows, p_.swap ? rows : cols_, base_ + at_.registers);
    }
  }

  void k_block() {
    copies_ = p_.copies && padded_ == cols_;
    if (p_.pack_b && !copies_) {
      pack_b();
    } else if (!p_.pack_b && padded_ != cols_) {
      copy_tail();
    }
    int64_t step = direct_ ? i_end_ - i_begin_ : block_rows(p_, padded_);
    if (p_.by_panels) step = least(step, p_.packed_rows);
    for (int64_t i = i_begin_; i < i_end_; i += step) block(i, least(step, i_end_ - i));
  }

  // Rows in place are read a few at a time across all panels: long runs, which the hardware
  // prefetches.
  void pack_b() {
    const int64_t depth = k1_ - k0_, step = p_.b_col == 1 ? kRunRows : depth;
    for (int64_t k = 0; k < depth; k += step) {
      for (int64_t j = 0; j < cols_;) {
        const int64_t w = tile_width(p_, ceil_div(cols_ - j, L)) * L;
        pack_panel(b_ + (k0_ + k) * p_.b_row + (j0_ + j) * p_.b_col, p_.b_row, p_.b_col,
                   least(step, depth - k), least(w, cols_ - j),
                   base_ + at_.panel + j * depth + k * w, w);
        j += w;
      }
    }
  }

  // The last panel of a B in place is read by whole vectors. That is harmless while they end inside
  // the matrix; the last rows, where they would not, are read from a padded copy. Returns how many
  // rows of this block are in place.
  int64_t rows_in_place(int64_t over) const {
    const int64_t copied = p_.b_row > 0 ? least(p_.k, ceil_div(over, p_.b_row)) : p_.k;
    return most(0, least(k1_, p_.k - copied) - k0_);
  }

  void copy_tail() {
    int64_t j = 0, w = 0;
    for (; j < cols_; j += w) w = tile_width(p_, ceil_div(cols_ - j, L)) * L;
    j -= w;
    tail_ = j;
    in_place_ = rows_in_place(w - (cols_ - j));
    pack_panel(b_ + (k0_ + in_place_) * p_.b_row + j0_ + j, p_.b_row, 1, k1_ - k0_ - in_place_,
               cols_ - j, base_ + at_.tail, w);
  }

  // Sums of rows [i, i + rows) of the group, and their epilogue.
  void block(int64_t i, int64_t rows) {
    const bool first = k0_ == 0, last = k1_ == p_.k;
    T* c = c_ + i * p_.c_row + j0_ * p_.c_col;
    if (direct_) {
      tiles(i, rows, c, p_.c_row);
      return;
    }
    const bool waits = !p_.sums_in_c && p_.k > p_.k_step;
    T* sums = base_ + at_.sums + (waits ? (i - i_begin_) * padded_ : 0);
    if (!waits && !first) gather_block(c, p_.c_row, p_.c_col, rows, cols_, sums, padded_);
    tiles(i, rows, sums, padded_);
    if (last && evaluates_) {
      finish(i, rows, sums);
    } else if (last || !waits) {
      scatter_block(sums, padded_, rows, cols_, c, p_.c_row, p_.c_col);
    }
  }

  // A strip of A in place stays in L1 while the panels of B pass by; by panels, a whole block of A
  // stays in L2 and passes by each panel of B in L1.
  void tiles(int64_t i, int64_t rows, T* c, int64_t c_row) {
    Tile<T> t;
    t.a_row = p_.pack_a ? 1 : p_.a_row, t.a_col = p_.a_col;
    t.c_row = c_row;
    t.accumulate = k0_ > 0;
    t.store = k1_ == p_.k ? store_ : Store::plain;
    t.extra_row = store_ == Store::relu_grad ? call_.tensors[p_.extra].stride[p_.row_axis] : 0;
    const EvenStrips strips(rows, p_.height);
    const int64_t packs = copies_ && i == i_begin_ ? 0 : -1;  // the strip that copies B
    if (p_.pack_a) pack_a(i, strips);
    if (p_.streams && k1_ - k0_ == kStreamRows && t.store == Store::plain && padded_ == cols_) {
      t.a = a_ + k0_ * p_.a_col;
      t.b[0] = b_ + k0_ * p_.b_row + j0_, t.b_row[0] = p_.b_row;
      t.c = c;
      return stream_row(t, cols_);
    }
    if (!p_.by_panels) {
      for (int64_t s = 0; s < strips.count; ++s) {
        for (int64_t j = 0; j < cols_;) {
          const int w = tile_width(p_, ceil_div(cols_ - j, L));
          set_b(t, j, w, s == packs);
          strip_tile(t, i, strips.start(s), strips.extent(s), j, w, c);
          j += w * L;
        }
      }
      return;
    }
    for (int64_t j = 0; j < cols_;) {
      const int w = tile_width(p_, ceil_div(cols_ - j, L));
      for (int64_t s = 0, r = 0; s < strips.count; ++s) {
        if (s <= 1) set_b(t, j, w, s == packs);
        const int64_t h = strips.extent(s);
        if (direct_ && r + 3 * h <= rows) prefetch_sums(c + (r + 2 * h) * c_row + j, c_row, h, w);
        strip_tile(t, i, r, h, j, w, c);
        r += h;
      }
      j += w * L;
    }
  }

  // Far rows of C are waited for at the start of a tile, unless they are in L2; those of the strip
  // after the next. Of a panel that starts within a line, the next one fetches the last.
  static void prefetch_sums(const T* c, int64_t c_row, int64_t rows, int w) {
    const bool second = w * L * sizeof(T) > 64;
    for (int64_t r = 0; r < rows; ++r, c += c_row) {
      __builtin_prefetch(c, 0, 2);
      if (second) __builtin_prefetch(c + 64 / sizeof(T), 0, 2);
    }
  }

  void pack_a(int64_t i, const EvenStrips& strips) {
    const int64_t depth = k1_ - k0_;
    const T* a = a_ + i * p_.a_row + k0_ * p_.a_col;
    T* packed = base_ + at_.rows;
    if (p_.a_row == 1 && p_.a_col >= 2 * L && p_.height <= 2 * L)
      return pack_strips(a, p_.a_col, depth, strips, packed);
    for (int64_t s = 0; s < strips.count; ++s) {
      const int64_t r = strips.start(s), h = strips.extent(s);
      gather_block(a + r * p_.a_row, p_.a_col, p_.a_row, depth, h, packed + r * depth, h);
    }
  }

  // Rows [r, r + h) of the block that starts at row i, and the panel of w vectors at column j of
  // the group.
  void strip_tile(Tile<T>& t, int64_t i, int64_t r, int64_t h, int64_t j, int w, T* c) {
    if (p_.pack_a) {
      t.a = base_ + at_.rows + r * (k1_ - k0_), t.a_col = h;
    } else {
      t.a = a_ + (i + r) * p_.a_row + k0_ * p_.a_col;
    }
    t.c = c + r * t.c_row + j;
    t.extra = bias_ ? bias_ + (i + r) * t.extra_row + j : t.c;
    const int height = static_cast<int>(h);
    (t.packed ? find_packing_tile<T>(w, height) : find_tile<T>(w, height))(t);
  }

  // B's panel of w vectors at column j of the group; `packs`: this tile copies it.
  void set_b(Tile<T>& t, int64_t j, int w, bool packs) const {
    const int64_t depth = k1_ - k0_;
    const T* in_place = b_ + k0_ * p_.b_row + j0_ + j;
    T* panel = base_ + at_.panel + j * depth;
    t.packed = packs && (w == 2 || w == 4) ? panel : nullptr;
    if (packs && !t.packed) pack_panel(in_place, p_.b_row, 1, depth, w * L, panel, w * L);
    t.k[0] = depth, t.k[1] = 0;
    if (p_.pack_b && !t.packed) {
      t.b[0] = panel, t.b_row[0] = w * L;
      return;
    }
    t.b[0] = in_place, t.b_row[0] = p_.b_row;
    if (padded_ != cols_ && j == tail_) {
      t.k[0] = in_place_, t.k[1] = depth - in_place_;
      t.b[1] = base_ + at_.tail, t.b_row[1] = w * L;
    }
  }

  // The operand's view of the block whose first row and column are i and j0_.
  Operand view(const Tensor& t, int64_t i) const {
    const int64_t row = t.stride[p_.row_axis], col = t.stride[t.rank - 1];
    const int64_t at = strides_offset(p_, call_, t, batch_) +
                       (p_.swap ? j0_ * row + i * col : i * row + j0_ * col);
    return {t.data + at * size_of(t.dtype), t.dtype, row, col};
  }

  void finish(int64_t i, int64_t rows, T* sums) {
    Operand out[kMaxOutputs], in[kMaxValues];
    in[0] = {reinterpret_cast<char*>(sums), p_.dtype, padded_, 1};
    if (p_.swap) {
      T* turned = base_ + at_.turned;
      transpose(sums, padded_, rows, cols_, turned, rows);
      in[0] = {reinterpret_cast<char*>(turned), p_.dtype, rows, 1};
    }
    for (int x = 0; x < p_.n_out; ++x) out[x] = view(call_.tensors[x], i);
    for (int x = 1; x < p_.expression.n_in; ++x) in[x] = view(call_.tensors[p_.n_out + 1 + x], i);
    evaluate(p_.expression, p_.swap ? cols_ : rows, p_.swap ? rows : cols_, out, in,
             base_ + at_.registers);
  }

  const Call& call_;
  const Product& p_;
  const Layout at_;
  T* base_;
  int64_t batch_ = 0;
  const T *a_ = nullptr, *b_ = nullptr, *extra_ = nullptr, *bias_ = nullptr;
  T* c_ = nullptr;
  int64_t j0_ = 0, cols_ = 0, padded_ = 0;  // columns of the group, and rounded up to whole vectors
  int64_t i_begin_ = 0, i_end_ = 0, k0_ = 0, k1_ = 0;
  int64_t tail_ = 0, in_place_ = 0;  // the panel with a partial last vector
  Store store_ = Store::plain;
  bool direct_ = false, evaluates_ = false;
  bool copies_ = false;  // the first strip of rows packs this group
};

// Parts are numbered by batch, column part, row part (by rows: row part, column part); neighbours
// are joined into the largest rectangles.
template <class T>
void run_parts(const Call& call, const Product& p, int64_t begin, int64_t end, char* scratch) {
  Multiplier<T> work(call, p, scratch);
  if (p.batch_step > 1) {
    for (int64_t x = begin * p.batch_step; x < least(end * p.batch_step, p.batches); ++x) {
      work.select(x);
      work.rectangle(0, p.m, 0, p.n);
    }
    return;
  }
  const int64_t panel = p.width * kLanes<T>, panels = ceil_div(p.n, panel);
  auto col = [&](int64_t part) { return least(p.n, panels * part / p.col_parts * panel); };
  auto row = [&](int64_t part) { return p.m * part / p.row_parts; };
  const int64_t inner = p.by_rows ? p.col_parts : p.row_parts;
  const int64_t outer = p.by_rows ? p.row_parts : p.col_parts;
  while (begin < end) {
    const int64_t cell = begin / inner, x = begin % inner, y = cell % outer;
    const int64_t nx = least(inner - x, end - begin);
    const int64_t ny = nx == inner ? least(outer - y, (end - begin) / inner) : 1;
    const int64_t i = p.by_rows ? y : x, j = p.by_rows ? x : y;
    work.select(cell / outer);
    work.rectangle(row(i), row(i + (p.by_rows ? ny : nx)), col(j), col(j + (p.by_rows ? nx : ny)));
    begin += nx * ny;
  }
}

// Elements of a tensor that are not repetitions.
double distinct(const Tensor& t) {
  double n = static_cast<double>(size_of(t.dtype));
  for (int d = 0; d < t.rank; ++d) n *= t.stride[d] ? static_cast<double>(t.shape[d]) : 1.0;
  return n;
}

}  // namespace

const char* plan_gemm(const Call& call, Work& work) {
  if (const char* wrong = check_gemm(call)) return wrong;
  Product p{};
  read_gemm(call, p);
  work.outputs = p.n_out;
  work.prepared_bytes = sizeof p;
  if (call.prepared) std::memcpy(call.prepared, &p, sizeof p);
  work.parts[0] = most(1, p.batch_parts * p.col_parts * p.row_parts);
  const int64_t elements =
      p.dtype == DType::f32 ? lay_out<float>(p).total : lay_out<double>(p).total;
  work.scratch_bytes = elements * size_of(p.dtype);
  const double outputs =
      static_cast<double>(p.batches) * static_cast<double>(p.m) * static_cast<double>(p.n);
  work.flops =
      outputs * (2.0 * static_cast<double>(p.k) + (p.has_expression ? cost(p.expression) : 0));
  work.bytes = 0;
  for (int t = 0; t < call.n_tensors; ++t) work.bytes += distinct(call.tensors[t]);
  return nullptr;
}

void run_gemm(const Call& call, int, int64_t begin, int64_t end, char* scratch) {
  Product p;
  if (call.prepared) {
    std::memcpy(&p, call.prepared, sizeof p);
    p.a = &call.tensors[p.n_out + p.swap], p.b = &call.tensors[p.n_out + !p.swap];
  } else {
    p = Product{};
    read_gemm(call, p);
  }
  if (p.batch_parts == 0) return;
  if (p.dtype == DType::f32) {
    run_parts<float>(call, p, begin, end, scratch);
  } else {
    run_parts<double>(call, p, begin, end, scratch);
  }
}

}  // namespace dl::DL_LEVEL
