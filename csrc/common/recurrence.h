// A call of recurrence, for every backend:  for t = 0 .. T-1 (or backwards)
//   for each stage:  s = a[t] @ m  (a product, or nothing)
//                    out[t].. = expression(slices of s, in[t]..)
//
//   tensors: outputs, then inputs. Sequences are (T or T+1 or 1, B or 1, W), matrices (K, N) and
//            first states (B, H). A history, (T+1, B, H), holds a state before step t at t and
//            after it at t+1; backwards, before it at t+1 and after it at t.
//   ints:    [H, backwards, n_histories, n_outputs,
//            first state of each history (tensor or -1: zeros)..,
//            n_stages, per stage: product: a, shift, slice, K / H, m, transposed, N / H (a = -1:
//            none), n_in, (tensor, shift, slice).., n_out, (tensor, shift, slice)..,
//            n_floats, n_ints, expr..]
//   Values are H wide: slice i is columns [i H, (i+1) H) of step t + shift; tensor -1 is the
//   product.
#pragma once

#include "common/expression.h"

namespace dl::DL_LEVEL {

constexpr int kMaxStages = 4;
constexpr int kMaxHistories = 4;
constexpr int64_t kMaxSlices = 64;
constexpr int64_t kMaxWidth = 1 << 20;

struct Value {
  int64_t tensor, shift, slice;
};

struct Stage {
  int64_t a, shift, slice, k, m, n;  // k and n in columns; k == 0: no product
  bool transposed;
  int n_in, n_out;
  Value in[kMaxValues], out[kMaxOutputs];
  Expression expression;
  const int64_t* ints;  // of the expression
  const double* floats;
  int n_ints, n_floats;
};

struct Recurrence {
  int64_t steps, rows, width;
  bool backwards;
  int n_histories, n_stages;
  int64_t first[kMaxHistories];
  Stage stages[kMaxStages];
};

// Reads ints one by one; what is missing reads as -2, which no field allows.
struct Reader {
  const int64_t* at;
  int64_t left;
  int64_t next() {
    if (left <= 0) return -2;
    --left;
    return *at++;
  }
  bool next(int64_t low, int64_t high, int64_t& x) {
    x = next();
    return x >= low && x <= high;
  }
};

constexpr const char* kMalformed = "recurrence: expected well-formed stages";

// Whether v names H columns of a sequence, at all steps.
inline bool is_valid(const Recurrence& r, const Call& call, const Value& v, int64_t width,
                     bool broadcasts) {
  if (v.tensor < 0 || v.tensor >= call.n_tensors || v.shift < 0 || v.shift > 1 || v.slice < 0 ||
      v.slice > kMaxSlices)
    return false;
  const Tensor& t = call.tensors[v.tensor];
  if (t.rank != 3) return false;
  const bool all = t.shape[0] == r.steps + v.shift || t.shape[0] == r.steps + 1;
  if (!all && !(broadcasts && t.shape[0] == 1 && v.shift == 0)) return false;
  if (t.shape[1] != r.rows && !(broadcasts && t.shape[1] == 1)) return false;
  if (broadcasts && t.shape[2] == 1 && v.slice == 0) return true;
  return t.shape[2] >= v.slice * r.width + width &&
         (t.stride[2] == 1 || t.shape[2] == 1 || (broadcasts && t.stride[2] == 0));
}

inline const char* read_values(const Recurrence& r, const Call& call, Reader& ints, Stage& s) {
  int64_t n;
  if (!ints.next(0, kMaxValues, n)) return kMalformed;
  s.n_in = static_cast<int>(n);
  for (int i = 0; i < s.n_in; ++i) {
    Value& v = s.in[i];
    v.tensor = ints.next(), v.shift = ints.next(), v.slice = ints.next();
    if (v.tensor == -1) {
      if (v.shift != 0 || v.slice < 0 || v.slice >= s.n / r.width) return kMalformed;
    } else if (!is_valid(r, call, v, r.width, true)) {
      return "recurrence: expected inputs (T, B, W) of the steps, rows and widths of their use";
    }
  }
  if (!ints.next(1, kMaxOutputs, n)) return kMalformed;
  s.n_out = static_cast<int>(n);
  return nullptr;
}

inline const char* read_stage(const Recurrence& r, const Call& call, int n_outputs, Reader& ints,
                              const double*& floats, int64_t& n_floats, Stage& s) {
  Value a{ints.next(), ints.next(), ints.next()};
  int64_t k, m, transposed, n;
  if (!ints.next(0, kMaxSlices, k) || !ints.next(-1, call.n_tensors - 1, m) ||
      !ints.next(0, 1, transposed) || !ints.next(0, kMaxSlices, n))
    return kMalformed;
  s.a = a.tensor, s.shift = a.shift, s.slice = a.slice, s.m = m, s.transposed = transposed;
  s.k = k * r.width, s.n = n * r.width;
  if (a.tensor >= 0) {
    if (m < 0 || k < 1 || n < 1 || !is_valid(r, call, a, s.k, false)) return kMalformed;
    const Tensor& t = call.tensors[m];
    const int row = transposed ? 1 : 0;
    if (t.rank != 2 || t.shape[row] != s.k || t.shape[1 - row] != s.n)
      return "recurrence: expected a matrix (K, N) that fits the product";
  } else if (k != 0 || n != 0) {
    return kMalformed;
  }
  if (const char* wrong = read_values(r, call, ints, s)) return wrong;
  for (int i = 0; i < s.n_out; ++i) {
    Value& v = s.out[i];
    v.tensor = ints.next(), v.shift = ints.next(), v.slice = ints.next();
    if (v.tensor >= n_outputs || !is_valid(r, call, v, r.width, false)) return kMalformed;
  }
  int64_t own_floats, own_ints;
  if (!ints.next(0, n_floats, own_floats) || !ints.next(0, ints.left - 1, own_ints))
    return kMalformed;
  if (const char* wrong = decode(ints.at, static_cast<int>(own_ints), floats,
                                 static_cast<int>(own_floats), s.expression))
    return wrong;
  if (s.expression.n_in != s.n_in || s.expression.n_out != s.n_out) return kMalformed;
  s.ints = ints.at, s.n_ints = static_cast<int>(own_ints);
  s.floats = floats, s.n_floats = static_cast<int>(own_floats);
  ints.at += own_ints, ints.left -= own_ints;
  floats += own_floats, n_floats -= own_floats;
  return nullptr;
}

// nullptr or a sentence. Shapes and types only; pointers may be null.
inline const char* read_recurrence(const Call& call, Recurrence& r) {
  Reader ints{call.ints, call.n_ints};
  int64_t backwards, histories, outputs, stages;
  if (!ints.next(1, kMaxWidth, r.width) || !ints.next(0, 1, backwards) ||
      !ints.next(1, kMaxHistories, histories) || !ints.next(1, call.n_tensors, outputs) ||
      histories > outputs)
    return kMalformed;
  r.backwards = backwards, r.n_histories = static_cast<int>(histories);
  const Tensor& history = call.tensors[0];
  if (history.rank != 3 || history.shape[0] < 1)
    return "recurrence: expected histories (T + 1, B, H)";
  const DType dtype = history.dtype;
  if (dtype != DType::f32 && dtype != DType::f64) return "recurrence: expected float32 or float64";
  r.steps = history.shape[0] - 1, r.rows = history.shape[1];
  for (int t = 0; t < outputs; ++t) {
    if (call.tensors[t].dtype != dtype) return "recurrence: expected outputs of one dtype";
  }
  for (int h = 0; h < r.n_histories; ++h) {
    if (!ints.next(-1, call.n_tensors - 1, r.first[h])) return kMalformed;
    if (!is_valid(r, call, {h, 1, 0}, r.width, false) || call.tensors[h].shape[0] != r.steps + 1)
      return "recurrence: expected histories (T + 1, B, H)";
    if (r.first[h] < 0) continue;
    const Tensor& t = call.tensors[r.first[h]];
    if (t.rank != 2 || t.shape[0] != r.rows || t.shape[1] != r.width || t.dtype != dtype)
      return "recurrence: expected first states (B, H)";
  }
  if (!ints.next(1, kMaxStages, stages)) return kMalformed;
  r.n_stages = static_cast<int>(stages);
  const double* floats = call.floats;
  int64_t n_floats = call.n_floats;
  for (int i = 0; i < r.n_stages; ++i) {
    Stage& s = r.stages[i];
    if (const char* wrong =
            read_stage(r, call, static_cast<int>(outputs), ints, floats, n_floats, s))
      return wrong;
    if (s.expression.compute != (dtype == DType::f64)) return kMalformed;
    if (s.k > 0 && (call.tensors[s.a].dtype != dtype || call.tensors[s.m].dtype != dtype))
      return "recurrence: expected products of one dtype";
  }
  return ints.left == 0 ? nullptr : kMalformed;
}

}  // namespace dl::DL_LEVEL
