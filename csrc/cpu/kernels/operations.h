// The operations of opcodes.def: one vector function each, and loops that run them over blocks of
// dense operands and scalars. Included by expression.cpp alone.
#pragma once

#include "cpu/math.h"

namespace dl::DL_LEVEL {

// ---- the functions: s are the sources, d the destinations ----

#define DL_APPLY(name, result)                                      \
  template <class T, int N>                                         \
  DL_INLINE void apply_##name(const Pack<T, N>* s, Pack<T, N>* d) { \
    for (int k = 0; k < N; ++k) {                                   \
      const Vec<T>&x = s[0].v[k], &y = s[1].v[k], &z = s[2].v[k];   \
      (void)y, (void)z;                                             \
      d[0].v[k] = result;                                           \
    }                                                               \
  }
#define DL_APPLY_PACK(name, result)                                 \
  template <class T, int N>                                         \
  DL_INLINE void apply_##name(const Pack<T, N>* s, Pack<T, N>* d) { \
    const Pack<T, N>&x = s[0], &y = s[1];                           \
    (void)y;                                                        \
    d[0] = result;                                                  \
  }

template <class T, class M>
inline Vec<T> truth(M mask) {
  return mask ? broadcast<T>(1) : Vec<T>{};
}

template <class T>
inline Vec<T> clamp(Vec<T> x, T low, T high) {  // NaN passes
  return at_most<T>(at_least<T>(x, low), high);
}

template <class T>
inline Vec<T> floor_mod(Vec<T> x, Vec<T> y) {
  Vec<T> r;
  for (int i = 0; i < kLanes<T>; ++i) r[i] = T(__builtin_fmod(x[i], y[i]));
  return r == T(0) ? copy_sign<T>(r, y) : (((r < T(0)) != (y < T(0))) ? r + y : r);
}

template <class T>
inline Vec<T> floor_divide(
    Vec<T> x, Vec<T> y) {  // (x - mod) / y, which is an integer but for its rounding error
  Vec<T> q = round<T>((x - floor_mod<T>(x, y)) / y), plain = x / y;
  return y == T(0) ? plain : (q == T(0) ? copy_sign<T>(q, plain) : q);
}

template <class T>
inline Vec<T> softplus(Vec<T> x) {
  return (x < T(0) ? Vec<T>{} : x) + log1p<T>(exp<T>(-absolute<T>(x)));
}

template <class T, int N>
DL_INLINE Pack<T, N> at_least(Pack<T, N> x, T low) {
  return each(x, [=](Vec<T> x) { return at_least<T>(x, low); });
}

template <class T, int N>
DL_INLINE Pack<T, N> at_most(Pack<T, N> x, T high) {
  return each(x, [=](Vec<T> x) { return at_most<T>(x, high); });
}

template <class T, int N>
DL_INLINE Pack<T, N> clamp(Pack<T, N> x, T low, T high) {
  return each(x, [=](Vec<T> x) { return clamp<T>(x, low, high); });
}

template <class T, int N>
DL_INLINE Pack<T, N> silu(Pack<T, N> x) {  // the clamp keeps -Inf from making 0 * Inf
  return at_least(x, Format<T>::kSigmoidLow) * sigmoid(x);
}

template <class T, int N>
DL_INLINE Pack<T, N> silu_slope(Pack<T, N> x) {
  x = clamp(x, Format<T>::kSigmoidLow, -Format<T>::kSigmoidLow);
  const Pack<T, N> y = sigmoid(x);
  return y * (T(1) + x * (T(1) - y));
}

// 2 sqrt(2 / pi) (x + 0.044715 x^3) = x (kGeluLinear + kGeluCubic x^2), and -log2(e) times that
constexpr double kGeluLinear = 1.5957691216057307118, kGeluCubic = 0.071354816272600248776;
constexpr double kGeluLinear2 = -2.3022081981443248891, kGeluCubic2 = -0.10294323958002348742;
constexpr int kGeluTanhHigh = 8;  // the sigmoid is 1 above

template <class T, int N>
DL_INLINE Pack<T, N> gelu_tanh_gate(Pack<T, N> x, Pack<T, N> squared) {
  return inverse_1_plus_exp2(x * (squared * T(kGeluCubic2) + T(kGeluLinear2)));
}

template <class T, int N>
DL_INLINE Pack<T, N> gelu_tanh(Pack<T, N> x) {
  x = at_least(x, Format<T>::kGeluTanhLow);
  const Pack<T, N> t = at_most(x, T(kGeluTanhHigh));
  return x * gelu_tanh_gate(t, t * t);
}

template <class T, int N>
DL_INLINE Pack<T, N> gelu_tanh_slope(Pack<T, N> x) {
  x = clamp(x, Format<T>::kGeluTanhLow, T(kGeluTanhHigh));
  const Pack<T, N> z = x * x, y = gelu_tanh_gate(x, z);
  return y + y * (T(1) - y) * (x * (z * T(3 * kGeluCubic) + T(kGeluLinear)));
}

template <class T, int N>
DL_INLINE Pack<T, N> gelu(Pack<T, N> x) {
  Pack<T, N> density;
  return at_least(x, -Format<T>::kTailEnd) * normal(x, density);
}

template <class T, int N>
DL_INLINE Pack<T, N> gelu_slope(Pack<T, N> x) {
  x = clamp(x, -Format<T>::kTailEnd, Format<T>::kTailEnd);
  Pack<T, N> density;
  const Pack<T, N> y = normal(x, density);
  return y + x * density * T(0.39894228040143267794);  // 1 / sqrt(2 pi)
}

template <class T>
constexpr T power_of_two(int n) {
  T x = 1;
  for (; n > 0; --n) x *= 2;
  for (; n < 0; ++n) x /= 2;
  return x;
}

// x as a format of `kKept` explicit bits of the mantissa and exponents of kLow and more stores it:
// the carry of rounding runs into the exponent, and where the format is subnormal, adding the
// number whose last bit is the format's last one rounds.
template <class T, int kKept, int kLow>
inline Vec<T> round_to(Vec<T> x, T largest) {
  constexpr int kDropped = Format<T>::kMantissaBits - kKept;
  constexpr UInt<T> kHalf = (UInt<T>(1) << (kDropped - 1)) - 1;
  const Vec<T> size = absolute<T>(x);
  UIntVec<T> bits = (UIntVec<T>)size;
  bits = (bits + kHalf + ((bits >> kDropped) & 1)) >> kDropped << kDropped;
  Vec<T> y = (Vec<T>)bits;
  if constexpr (kLow > 1 - Format<T>::kBias) {
    constexpr T kUnit = power_of_two<T>(kLow - kKept + Format<T>::kMantissaBits);
    y = size < power_of_two<T>(kLow) ? (size + kUnit) - kUnit : y;
  }
  y = y > largest ? broadcast<T>(T(__builtin_huge_val())) : y;
  return x == x ? copy_sign<T>(y, x) : x;
}

template <class T>
inline Vec<T> round_bf16(Vec<T> x) {
  return round_to<T, 7, -126>(x, T(0x1.fep127));
}

template <class T>
inline Vec<T> round_f16(Vec<T> x) {
  return round_to<T, 10, -14>(x, T(65504));
}

DL_APPLY(identity, x)
DL_APPLY(add, x + y)
DL_APPLY(subtract, x - y)
DL_APPLY(multiply, x* y)
DL_APPLY(divide, x / y)
DL_APPLY(maximum, ((x > y) | (x != x)) ? x : y)
DL_APPLY(minimum, ((x < y) | (x != x)) ? x : y)
DL_APPLY(power, pow<T>(x, y))
DL_APPLY(floor_divide, floor_divide<T>(x, y))
DL_APPLY(mod, floor_mod<T>(x, y))
DL_APPLY(negative, -x)
DL_APPLY(abs, absolute<T>(x))
DL_APPLY(sign,
         x > T(0) ? broadcast<T>(1) : (x < T(0) ? broadcast<T>(-1) : (x == T(0) ? Vec<T>{} : x)))
DL_APPLY(sqrt, square_root<T>(x))
DL_APPLY(rsqrt, T(1) / square_root<T>(x))
DL_APPLY(square, x* x)
DL_APPLY(reciprocal, T(1) / x)
DL_APPLY_PACK(exp, exp(x))
DL_APPLY(expm1, expm1<T>(x))
DL_APPLY(log, log<T>(x))
DL_APPLY(log1p, log1p<T>(x))
DL_APPLY_PACK(tanh, tanh(x))
DL_APPLY_PACK(sigmoid, sigmoid(x))
DL_APPLY_PACK(erf, erf(x))
DL_APPLY(sin, sin<T>(x))
DL_APPLY(cos, cos<T>(x))
DL_APPLY(floor, floor<T>(x))
DL_APPLY(ceil, ceil<T>(x))
DL_APPLY(round, round<T>(x))
DL_APPLY(trunc, trunc<T>(x))
DL_APPLY(round_bf16, round_bf16<T>(x))
DL_APPLY(round_f16, round_f16<T>(x))
DL_APPLY(relu, at_least<T>(x, T(0)))
DL_APPLY(less, truth<T>(x < y))
DL_APPLY(less_equal, truth<T>(x <= y))
DL_APPLY(greater, truth<T>(x > y))
DL_APPLY(greater_equal, truth<T>(x >= y))
DL_APPLY(equal, truth<T>(x == y))
DL_APPLY(not_equal, truth<T>(x != y))
DL_APPLY(logical_and, truth<T>((x != T(0)) & (y != T(0))))
DL_APPLY(logical_or, truth<T>((x != T(0)) | (y != T(0))))
DL_APPLY(logical_not, truth<T>(x == T(0)))
DL_APPLY(isnan, truth<T>(x != x))
DL_APPLY(isfinite, truth<T>(absolute<T>(x) < T(__builtin_huge_val())))
DL_APPLY(where, x != T(0) ? y : z)
DL_APPLY(multiply_add, x* y + z)
DL_APPLY(softplus, softplus<T>(x))
DL_APPLY_PACK(silu, silu(x))
DL_APPLY_PACK(silu_grad, x* silu_slope(y))
DL_APPLY_PACK(gelu, gelu(x))
DL_APPLY_PACK(gelu_grad, x* gelu_slope(y))
DL_APPLY_PACK(gelu_tanh, gelu_tanh(x))
DL_APPLY_PACK(gelu_tanh_grad, x* gelu_tanh_slope(y))
DL_APPLY(sigmoid_grad, x * y * (T(1) - y))
DL_APPLY(tanh_grad, x*(T(1) - y * y))
DL_APPLY(relu_grad, y > T(0) ? x : Vec<T>{})
#undef DL_APPLY
#undef DL_APPLY_PACK

template <class T, int N>
DL_INLINE void apply_momentum_update(const Pack<T, N>* s, Pack<T, N>* d) {
  d[1] = s[4] * s[2] - s[3] * s[1];
  d[0] = s[0] + d[1];
}

template <class T, int N>
DL_INLINE void apply_adam_update(const Pack<T, N>* s, Pack<T, N>* d) {
  const Pack<T, N> g = s[1];
  d[1] = (g - s[2]) * s[5] + s[2];
  d[2] = (g * g - s[3]) * s[6] + s[3];
  d[0] = s[0] - s[4] * d[1] / (each(d[2], square_root<T>) + s[7]);
}

// Vectors that loops take at a time: several for functions written for packs.
constexpr int vectors_of(int64_t opcode) {
  switch (opcode) {
    case op_exp:
    case op_tanh:
    case op_sigmoid:
    case op_silu:
    case op_silu_grad:
    case op_gelu_tanh:
    case op_gelu_tanh_grad:
    case op_erf:
    case op_gelu:
    case op_gelu_grad:
      return kPack;
    default:
      return 1;
  }
}

// ---- one operation over a block ----

template <class T>
struct Place {
  T* data;
  int64_t row_stride;
  bool scalar;  // one element a row instead of cols
};

#define DL_OP(name, inputs, outputs)                                  \
  struct Op_##name {                                                  \
    static constexpr int kIn = inputs, kOut = outputs;                \
    static constexpr bool kLong = cost(op_##name) >= 20;              \
    static constexpr int kVectors = vectors_of(op_##name);            \
    template <class T, int N>                                         \
    static DL_INLINE void apply(const Pack<T, N>* s, Pack<T, N>* d) { \
      apply_##name(s, d);                                             \
    }                                                                 \
  };
#include "opcodes.def"
#undef DL_OP

template <class T>
using Run = void (*)(int64_t rows, int64_t cols, const Place<T>* dst, const Place<T>* src);

// The first n < N kLanes elements, which lie before room for all
template <class T, int N>
__attribute__((noinline)) void load_tail(T* to, const T* from, int64_t n) {
  for (int k = 0; k < N; ++k, n -= kLanes<T>)
    store<T>(to + k * kLanes<T>, n >= kLanes<T> ? load<T>(from + k * kLanes<T>)
                                 : n > 0        ? load_part<T>(from + k * kLanes<T>, n)
                                                : Vec<T>{});
}

template <class T, int N>
__attribute__((noinline)) void store_tail(T* to, const T* from, int64_t n) {
  for (int k = 0; k < N && n > 0; ++k, n -= kLanes<T>)
    if (n >= kLanes<T>)
      store<T>(to + k * kLanes<T>, load<T>(from + k * kLanes<T>));
    else
      store_part<T>(to + k * kLanes<T>, load<T>(from + k * kLanes<T>), n);
}

// Bit i of Scalars: source i is one element a row. The tail goes through buffers and the same loop:
// compilers may contract a second copy of the operation differently, and a tail must have the bits
// of a full vector.
template <class T, class Op, unsigned Scalars>
void run_operation(int64_t rows, int64_t cols, const Place<T>* dst, const Place<T>* src) {
  constexpr int L = kLanes<T>, N = Op::kVectors, S = N * L, kIn = Op::kIn, kOut = Op::kOut;
  const int64_t tail = cols % S;
  for (int64_t r = 0; r < rows; ++r) {
    const T* p[kIn];
    T* q[kOut];
    Vec<T> splat[kIn];
    for (int i = 0; i < kIn; ++i) {
      p[i] = src[i].data + r * src[i].row_stride;
      if (Scalars >> i & 1) splat[i] = broadcast<T>(*p[i]);
    }
    for (int i = 0; i < kOut; ++i) q[i] = dst[i].data + r * dst[i].row_stride;
    T in[kIn][S], out[kOut][S];
    auto step = [&](int64_t c) __attribute__((always_inline)) {
      Pack<T, N> s[kIn < 3 ? 3 : kIn], d[kOut];
      for (int i = 0; i < kIn; ++i)
        for (int k = 0; k < N; ++k)
          s[i].v[k] = Scalars >> i & 1 ? splat[i] : load<T>(p[i] + c + k * L);
      Op::apply(s, d);
      for (int i = 0; i < kOut; ++i)
        for (int k = 0; k < N; ++k) store<T>(q[i] + c + k * L, d[i].v[k]);
    };
    for (int64_t n = cols - tail;;) {
      if constexpr (Op::kLong) {
#pragma GCC unroll 1
        for (int64_t c = 0; c < n; c += S) step(c);
      } else {
#pragma GCC unroll 2
        for (int64_t c = 0; c < n; c += S) step(c);
      }
      if (tail == 0 || q[0] == out[0]) break;
      for (int i = 0; i < kIn; ++i) {
        if (!(Scalars >> i & 1)) load_tail<T, N>(in[i], p[i] + n, tail);
        p[i] = in[i];
      }
      for (int i = 0; i < kOut; ++i) q[i] = out[i];
      n = S;
    }
    if (tail)
      for (int i = 0; i < kOut; ++i)
        store_tail<T, N>(dst[i].data + r * dst[i].row_stride + (cols - tail), out[i], tail);
  }
}

constexpr int kForms = 8;
constexpr unsigned kUpdateScalars[] = {
    0b11000, 0b11110000};  // of momentum_update (5 sources) and adam_update (8)

// Up to three sources every mix of dense and scalar but all scalar; long operations all dense, the
// updates with scalar settings too. The evaluator spreads scalars where a form is missing.
template <class T>
struct OpForms {
  Run<T> run[kForms] = {};
};

template <class T, class Op>
constexpr OpForms<T> forms() {
  OpForms<T> f;
  f.run[0] = run_operation<T, Op, 0>;
  if constexpr (Op::kIn > 3) f.run[1] = run_operation<T, Op, kUpdateScalars[Op::kIn > 5]>;
  if constexpr ((Op::kIn == 2 || Op::kIn == 3) && !Op::kLong)
    f.run[1] = run_operation<T, Op, 1>, f.run[2] = run_operation<T, Op, 2>;
  if constexpr (Op::kIn == 3) {
    f.run[3] = run_operation<T, Op, 3>, f.run[4] = run_operation<T, Op, 4>;
    f.run[5] = run_operation<T, Op, 5>, f.run[6] = run_operation<T, Op, 6>;
  }
  return f;
}

template <class T>
static constexpr OpForms<T> kRun[] = {
#define DL_OP(name, inputs, outputs) forms<T, Op_##name>(),
#include "opcodes.def"
#undef DL_OP
};

}  // namespace dl::DL_LEVEL
