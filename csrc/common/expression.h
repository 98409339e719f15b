// Pointwise expressions: a short list of operations on values, for every backend.
//
//   ints = [compute (0 = f32, 1 = f64), n_out, n_in, n_const, n_temp, n_ops,
//           per operation: opcode, destination ids, source ids,  then n_out result ids];   floats =
//           the constants
// Value ids: inputs 0..n_in-1, then constants, then temporaries. A destination is a temporary and
// may equal a source of the same operation. A result may name any value.
//
// In the namespace of the backend or instruction set that includes it, as no symbol may be shared
// among these.
#pragma once

#include <cstdint>

#include "kernel.h"

namespace dl::DL_LEVEL {

constexpr int kMaxValues =
    64;  // inputs + constants + temporaries of one expression: sets of values are 64-bit masks
constexpr int kMaxOutputs = 8;

struct Expression {
  int compute, n_out, n_in, n_const, n_temp, n_ops;
  const int64_t* code;
  const double* constants;
  const int64_t* results;

  // What decode finds out for evaluation.
  uint64_t read;                     // inputs that operations read
  uint64_t read_after[kMaxOutputs];  // inputs read after the operation that makes this result, or
                                     // named as results
  int made_by[kMaxOutputs];          // that operation, or -1
  int most_sources;                  // of one operation

  int values() const { return n_in + n_const + n_temp; }
};

static constexpr struct {
  int n_in, n_out;
} kOps[] = {
#define DL_OP(name, inputs, outputs) {inputs, outputs},
#include "opcodes.def"
#undef DL_OP
};
enum Opcode {
#define DL_OP(name, inputs, outputs) op_##name,
#include "opcodes.def"
#undef DL_OP
};
constexpr int64_t kOpCount = sizeof kOps / sizeof kOps[0];

inline const char* decode_header(const int64_t* ints, int n_ints, int n_floats, Expression& e) {
  if (n_ints < 6) return "expression: expected at least 6 integers";
  for (int i = 0; i < 6; ++i)
    if (ints[i] < 0 || ints[i] > (i == 5 ? 4096 : kMaxValues))
      return "expression: expected counts in range";
  e.compute = int(ints[0]), e.n_out = int(ints[1]), e.n_in = int(ints[2]);
  e.n_const = int(ints[3]), e.n_temp = int(ints[4]), e.n_ops = int(ints[5]);
  if (e.compute > 1) return "expression: expected compute type 0 (f32) or 1 (f64)";
  if (e.n_out < 1 || e.n_out > kMaxOutputs) return "expression: expected 1 to 8 outputs";
  if (e.values() > kMaxValues) return "expression: expected at most 64 values";
  if (n_floats != e.n_const) return "expression: expected one float for each constant";
  if (n_ints < 6 + e.n_out) return "expression: expected one result for each output";
  return nullptr;
}

// nullptr, or what is wrong. Checks every id and opcode, so that evaluation is memory-safe.
inline const char* decode(const int64_t* ints, int n_ints, const double* floats, int n_floats,
                          Expression& e) {
  if (const char* wrong = decode_header(ints, n_ints, n_floats, e)) return wrong;
  const int n_values = e.values(), first_temp = e.n_in + e.n_const;
  auto set = [](int64_t n) { return n >= 64 ? ~uint64_t(0) : (uint64_t(1) << n) - 1; };
  auto bit = [](int64_t id) { return uint64_t(1) << id; };
  const int64_t *p = ints + 6, *end = ints + n_ints - e.n_out;
  e.code = p, e.constants = floats, e.results = end, e.read = 0, e.most_sources = 0;
  for (int o = 0; o < e.n_out; ++o) e.made_by[o] = -1, e.read_after[o] = 0;
  uint64_t known = set(first_temp);
  for (int op = 0; op < e.n_ops; ++op) {
    if (p >= end || *p < 0 || *p >= kOpCount) return "expression: expected a known opcode";
    const auto [n_in, n_out] = kOps[*p++];
    if (end - p < n_in + n_out) return "expression: expected more integers";
    const int64_t *dst = p, *src = p + n_out;
    p += n_out + n_in;
    uint64_t sources = 0, made = 0;
    for (int i = 0; i < n_in; ++i) {
      if (src[i] < 0 || src[i] >= n_values || !(known & bit(src[i])))
        return "expression: expected sources with values";
      sources |= bit(src[i]);
    }
    for (int i = 0; i < n_out; ++i) {
      if (dst[i] < first_temp || dst[i] >= n_values || (made & bit(dst[i])))
        return "expression: expected different temporaries as destinations";
      made |= bit(dst[i]);
    }
    known |= made;
    e.read |= sources & set(e.n_in);
    e.most_sources = n_in > e.most_sources ? n_in : e.most_sources;
    for (int o = 0; o < e.n_out; ++o) {
      bool here = end[o] >= first_temp && end[o] < n_values && (made & bit(end[o]));
      e.read_after[o] = here ? 0 : e.read_after[o] | (sources & set(e.n_in));
      if (here) e.made_by[o] = op;
    }
  }
  if (p != end) return "expression: expected no more integers";
  uint64_t named = 0;
  for (int o = 0; o < e.n_out; ++o) {
    if (end[o] < 0 || end[o] >= n_values || !(known & bit(end[o])))
      return "expression: expected results with values";
    if (end[o] < e.n_in) named |= bit(end[o]);
  }
  for (int o = 0; o < e.n_out; ++o) e.read_after[o] |= named;
  return nullptr;
}

constexpr double cost(int64_t opcode) {
  switch (opcode) {
    case op_exp:
    case op_expm1:
    case op_log:
    case op_log1p:
    case op_tanh:
    case op_sigmoid:
    case op_erf:
    case op_sin:
    case op_cos:
    case op_softplus:
    case op_silu:
    case op_silu_grad:
    case op_gelu:
    case op_gelu_grad:
    case op_gelu_tanh:
    case op_gelu_tanh_grad:
    case op_adam_update:
      return 20;
    case op_power:
    case op_mod:
    case op_floor_divide:
      return 80;
    case op_divide:
    case op_reciprocal:
    case op_sqrt:
    case op_rsqrt:
    case op_momentum_update:
      return 4;
    default:
      return 1;
  }
}

// Arithmetic per element, a transcendental function counted as 20.
inline double cost(const Expression& e) {
  double sum = 0;
  const int64_t* p = e.code;
  for (int op = 0; op < e.n_ops; ++op, p += 1 + kOps[*p].n_in + kOps[*p].n_out) sum += cost(*p);
  return sum;
}

// nullptr or a sentence. Shapes and types only; pointers may be null. e is what decode found.
inline const char* check_pointwise(const Call& call, const Expression& e) {
  const Tensor* t = call.tensors;
  if (call.n_tensors != e.n_out + e.n_in)
    return "pointwise: expected as many tensors as the expression has";
  for (int i = 0; i < call.n_tensors; ++i) {
    if (t[i].rank != t[0].rank || t[i].rank > kMaxRank)
      return "pointwise: expected tensors of one rank up to 8";
    for (int d = 0; d < t[0].rank; ++d) {
      if (t[i].shape[d] != t[0].shape[d]) return "pointwise: expected tensors of one shape";
      if (i < e.n_out && t[i].stride[d] == 0 && t[i].shape[d] > 1)
        return "pointwise: expected outputs that are not broadcast";
    }
  }
  return nullptr;
}

}  // namespace dl::DL_LEVEL
