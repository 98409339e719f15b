// Pointwise expressions on the device: an interpreter, one thread for a few elements. What each
// operation reads and writes lies in shared memory, a pack of elements for each value and thread,
// so that nothing is indexed in registers; the branch on the operation is the same for all threads.
//
//   DeviceExpression e;                       host: encode(call.ints, ..., e), then an argument
//   Pack<T, V>* registers = ... + threadIdx   device: registers_bytes<T, V>(e, threads) of shared
//   evaluate<T, V>(e, registers, threads, load, store);      memory for all threads of the block
//
// load(i) gives the pack of input i, store(o, pack) takes result o. All inputs are loaded before
// anything is stored: a result may lie where an input lay, element by element.
#pragma once

#include "cuda/elements.cuh"

#include "common/expression.h"

namespace dl::cuda {

constexpr int kMaxOperations = 96;  // the fusion joins fewer
constexpr int kConstant = 128;      // ids from here on are constants, below are registers
constexpr int kMostRegisters = 46;  // of float64, in blocks of 256: any GPU has room for so many

struct DeviceExpression {
  uint8_t n_out, n_in, n_ops, n_registers;
  uint8_t result[kMaxOutputs];
  uint64_t read;  // inputs to load
  struct {
    uint8_t op, n_in, n_out, value[13];  // destinations, then sources
  } code[kMaxOperations];
  double constants[kMaxValues];
};

// nullptr, or what is wrong. `e` is what decode found; `d` is what kernels take.
inline const char* encode(const int64_t* ints, int n_ints, const double* floats, int n_floats,
                          Expression& e, DeviceExpression& d) {
  if (const char* wrong = decode(ints, n_ints, floats, n_floats, e)) return wrong;
  if (e.n_ops > kMaxOperations) return "expression: expected at most 96 operations";
  const auto place = [&](int64_t id) {
    if (id < e.n_in) return static_cast<uint8_t>(id);
    if (id < e.n_in + e.n_const) return static_cast<uint8_t>(kConstant + id - e.n_in);
    return static_cast<uint8_t>(id - e.n_const);
  };
  d = {};
  d.n_out = static_cast<uint8_t>(e.n_out);
  d.n_in = static_cast<uint8_t>(e.n_in);
  d.n_ops = static_cast<uint8_t>(e.n_ops);
  d.n_registers = static_cast<uint8_t>(e.n_in + e.n_temp);
  if (e.compute && d.n_registers > kMostRegisters)
    return "expression: expected at most 46 inputs and temporaries of float64 on a GPU";
  d.read = e.read;
  for (int i = 0; i < e.n_const; ++i) d.constants[i] = e.constants[i];
  for (int o = 0; o < e.n_out; ++o) {
    d.result[o] = place(e.results[o]);
    if (e.results[o] < e.n_in) d.read |= uint64_t{1} << e.results[o];
  }
  const int64_t* p = e.code;
  for (int op = 0; op < e.n_ops; ++op) {
    const auto [n_in, n_out] = kOps[*p];
    d.code[op].op = static_cast<uint8_t>(*p++);
    d.code[op].n_in = static_cast<uint8_t>(n_in);
    d.code[op].n_out = static_cast<uint8_t>(n_out);
    for (int i = 0; i < n_in + n_out; ++i) d.code[op].value[i] = place(*p++);
  }
  return nullptr;
}

template <class T, int V>
size_t registers_bytes(const DeviceExpression& e, int threads) {
  return sizeof(Pack<T, V>) * e.n_registers * threads;
}

// ---- the operations, with the meaning of csrc/cpu/kernels/operations.h ----

template <class T>
__device__ inline T sigmoid(T x) {
  return T(1) / (T(1) + exp(-x));
}

template <class T>
__device__ inline T floor_mod(T x, T y) {
  const T r = fmod(x, y);
  return r == T(0) ? copysign(r, y) : (r < T(0)) != (y < T(0)) ? r + y : r;
}

template <class T>
__device__ inline T floor_divide(T x, T y) {  // (x - mod) / y is an integer but for rounding
  const T plain = x / y;
  if (y == T(0)) return plain;
  const T q = rint((x - floor_mod(x, y)) / y);
  return q == T(0) ? copysign(q, plain) : q;
}

// Where exp(-|x|) is 0 the functions below are 0, x or 1; the bound keeps Inf from 0 * Inf.
template <class T>
__device__ inline T bounded(T x) {
  const T end = sizeof(T) == 4 ? T(104) : T(746);
  return x < -end ? -end : x > end ? end : x;
}

template <class T>
__device__ inline T silu(T x) {
  return (x < T(0) ? bounded(x) : x) * sigmoid(x);
}

template <class T>
__device__ inline T silu_slope(T x) {
  x = bounded(x);
  const T y = sigmoid(x);
  return y * (T(1) + x * (T(1) - y));
}

template <class T>
__device__ inline T normal_cumulative(T x) {  // erfc keeps its digits in the tail
  return T(0.5) * erfc(x * T(-0.70710678118654752440));
}

template <class T>
__device__ inline T gelu(T x) {
  return (x < T(0) ? bounded(x) : x) * normal_cumulative(x);
}

template <class T>
__device__ inline T gelu_slope(T x) {
  x = bounded(x);
  return normal_cumulative(x) + x * exp(T(-0.5) * x * x) * T(0.39894228040143267794);
}

template <class T>
__device__ inline T gelu_tanh_gate(T x, T z) {  // z = x^2
  return sigmoid(x * T(1.5957691216057307118) * (T(1) + T(0.044715) * z));
}

template <class T>
__device__ inline T gelu_tanh(T x) {
  return (x < T(0) ? bounded(x) : x) * gelu_tanh_gate(x, x * x);
}

template <class T>
__device__ inline T gelu_tanh_slope(T x) {
  x = bounded(x);
  const T y = gelu_tanh_gate(x, x * x);
  return y + y * (T(1) - y) * x * T(1.5957691216057307118) * (T(1) + T(3 * 0.044715) * x * x);
}

template <class T>
__device__ inline T sign(T x) {
  return x > T(0) ? T(1) : x < T(0) ? T(-1) : x;  // 0 and NaN stay
}

// x in a format of `kept` explicit bits of the mantissa and exponents of `low` and more.
template <class Half, class T>
__device__ inline T round_to(T x, int kept, int low, T largest) {
  if constexpr (sizeof(T) == 4) return x == x ? static_cast<float>(Half(x)) : x;
  const T size = fabs(x);
  if (!(size < T(HUGE_VAL)) || size == T(0)) return x;
  const int exponent = ilogb(size);
  const T unit = ldexp(T(1), (exponent < low ? low : exponent) - kept);
  const T y = rint(size / unit) * unit;
  return copysign(y > largest ? T(HUGE_VAL) : y, x);
}

// ---- the interpreter ----

template <class T, int V>
struct Interpreter {
  const DeviceExpression& e;
  Pack<T, V>* registers;  // of this thread
  int stride;             // from value to value: the threads of the block

  __device__ Pack<T, V> read(int value) const {
    if (value < kConstant) return registers[value * stride];
    Pack<T, V> x;
#pragma unroll
    for (int v = 0; v < V; ++v) x.v[v] = static_cast<T>(e.constants[value - kConstant]);
    return x;
  }

  __device__ T element(int value, int v) const {
    return value < kConstant ? registers[value * stride].v[v]
                             : static_cast<T>(e.constants[value - kConstant]);
  }

  __device__ void momentum_update(const uint8_t* dst, const uint8_t* src) const {
    const Pack<T, V> w = read(src[0]), g = read(src[1]), m = read(src[2]), rate = read(src[3]),
                     momentum = read(src[4]);
    Pack<T, V> new_w, new_m;
#pragma unroll
    for (int v = 0; v < V; ++v) {
      new_m.v[v] = momentum.v[v] * m.v[v] - rate.v[v] * g.v[v];
      new_w.v[v] = w.v[v] + new_m.v[v];
    }
    registers[dst[0] * stride] = new_w;
    registers[dst[1] * stride] = new_m;
  }

  __device__ void adam_update(const uint8_t* dst, const uint8_t* src) const {
    const Pack<T, V> w = read(src[0]), g = read(src[1]), m = read(src[2]), s = read(src[3]);
    const Pack<T, V> alpha = read(src[4]), rest1 = read(src[5]), rest2 = read(src[6]),
                     epsilon = read(src[7]);
    Pack<T, V> new_w, new_m, new_s;
#pragma unroll
    for (int v = 0; v < V; ++v) {
      new_m.v[v] = (g.v[v] - m.v[v]) * rest1.v[v] + m.v[v];
      new_s.v[v] = (g.v[v] * g.v[v] - s.v[v]) * rest2.v[v] + s.v[v];
      new_w.v[v] = w.v[v] - alpha.v[v] * new_m.v[v] / (sqrt(new_s.v[v]) + epsilon.v[v]);
    }
    registers[dst[0] * stride] = new_w;
    registers[dst[1] * stride] = new_m;
    registers[dst[2] * stride] = new_s;
  }

  // Functions of many instructions: element by element, so that they are in the program once.
  __device__ bool long_operation(int op, int dst, const uint8_t* src) const {
    Pack<T, V>& result = registers[dst * stride];
    switch (op) {
#define DL_APPLY(name, formula)                                                \
  case op_##name:                                                              \
    _Pragma("unroll 1") for (int v = 0; v < V; ++v) {                          \
      [[maybe_unused]] const T x = element(src[0], v), y = element(src[1], v); \
      result.v[v] = formula;                                                   \
    }                                                                          \
    return true;
      DL_APPLY(power, pow(x, y))
      DL_APPLY(round_bf16, (round_to<Bf16>(x, 7, -126, T(0x1.fep127))))
      DL_APPLY(round_f16, (round_to<F16>(x, 10, -14, T(65504))))
      DL_APPLY(floor_divide, floor_divide(x, y))
      DL_APPLY(mod, floor_mod(x, y))
      DL_APPLY(expm1, expm1(x))
      DL_APPLY(log1p, log1p(x))
      DL_APPLY(tanh, tanh(x))
      DL_APPLY(erf, erf(x))
      DL_APPLY(sin, sin(x))
      DL_APPLY(cos, cos(x))
      DL_APPLY(softplus, (x < T(0) ? T(0) : x) + log1p(exp(-fabs(x))))
      DL_APPLY(silu_grad, x * silu_slope(y))
      DL_APPLY(gelu, gelu(x))
      DL_APPLY(gelu_grad, x * gelu_slope(y))
      DL_APPLY(gelu_tanh, gelu_tanh(x))
      DL_APPLY(gelu_tanh_grad, x * gelu_tanh_slope(y))
#undef DL_APPLY
    }
    return false;
  }

  __device__ void operation(int index) const {
    const auto& code = e.code[index];
    const uint8_t *dst = code.value, *src = dst + code.n_out;
    if (code.op == op_adam_update) return adam_update(dst, src);
    if (code.op == op_momentum_update) return momentum_update(dst, src);
    if (long_operation(code.op, dst[0], src)) return;
    const Pack<T, V> a = read(src[0]);
    Pack<T, V> b{}, c{}, result;
    if (code.n_in > 1) b = read(src[1]);
    if (code.n_in > 2) c = read(src[2]);
    switch (code.op) {
#define DL_APPLY(name, formula)                                    \
  case op_##name:                                                  \
    _Pragma("unroll") for (int v = 0; v < V; ++v) {                \
      [[maybe_unused]] const T x = a.v[v], y = b.v[v], z = c.v[v]; \
      result.v[v] = formula;                                       \
    }                                                              \
    break;
      DL_APPLY(identity, x)
      DL_APPLY(add, x + y)
      DL_APPLY(subtract, x - y)
      DL_APPLY(multiply, x * y)
      DL_APPLY(divide, x / y)
      DL_APPLY(maximum, x > y || x != x ? x : y)
      DL_APPLY(minimum, x < y || x != x ? x : y)
      DL_APPLY(negative, -x)
      DL_APPLY(abs, fabs(x))
      DL_APPLY(sign, sign(x))
      DL_APPLY(sqrt, sqrt(x))
      DL_APPLY(rsqrt, T(1) / sqrt(x))
      DL_APPLY(square, x * x)
      DL_APPLY(reciprocal, T(1) / x)
      DL_APPLY(exp, exp(x))
      DL_APPLY(log, log(x))
      DL_APPLY(sigmoid, sigmoid(x))
      DL_APPLY(floor, floor(x))
      DL_APPLY(ceil, ceil(x))
      DL_APPLY(round, rint(x))
      DL_APPLY(trunc, trunc(x))
      DL_APPLY(relu, x < T(0) ? T(0) : x)
      DL_APPLY(less, T(x < y))
      DL_APPLY(less_equal, T(x <= y))
      DL_APPLY(greater, T(x > y))
      DL_APPLY(greater_equal, T(x >= y))
      DL_APPLY(equal, T(x == y))
      DL_APPLY(not_equal, T(x != y))
      DL_APPLY(logical_and, T(x != T(0) && y != T(0)))
      DL_APPLY(logical_or, T(x != T(0) || y != T(0)))
      DL_APPLY(logical_not, T(x == T(0)))
      DL_APPLY(isnan, T(x != x))
      DL_APPLY(isfinite, T(fabs(x) < T(HUGE_VAL)))
      DL_APPLY(where, x != T(0) ? y : z)
      DL_APPLY(multiply_add, fma(x, y, z))
      DL_APPLY(silu, silu(x))
      DL_APPLY(sigmoid_grad, x * y * (T(1) - y))
      DL_APPLY(tanh_grad, x * (T(1) - y * y))
      DL_APPLY(relu_grad, y > T(0) ? x : T(0))
#undef DL_APPLY
    }
    registers[dst[0] * stride] = result;
  }
};

template <class T, int V, class Load, class Store>
__device__ inline void evaluate(const DeviceExpression& e, Pack<T, V>* registers, int stride,
                                Load load, Store store) {
  const Interpreter<T, V> interpreter{e, registers, stride};
  for (int i = 0; i < e.n_in; ++i) {
    if (e.read >> i & 1) registers[i * stride] = load(i);
  }
  for (int op = 0; op < e.n_ops; ++op) interpreter.operation(op);
  for (int o = 0; o < e.n_out; ++o) store(o, interpreter.read(e.result[o]));
}

}  // namespace dl::cuda
