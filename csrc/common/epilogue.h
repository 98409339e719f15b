// Epilogues so common that kernels apply them while they store their sums.
#pragma once

#include "common/expression.h"

namespace dl::DL_LEVEL {

enum class Store { plain, bias, bias_relu, relu_grad };

struct Epilogue {
  Store store;
  int input;  // of the expression: bias, or y of relu_grad; 0 when the expression is something else
};

// Recognises sum + bias, relu(sum + bias) and relu_grad(sum, y), where input 0 is the sum.
inline Epilogue match_epilogue(const Expression& e) {
  const int64_t* c = e.code;
  constexpr Epilogue kNone{Store::plain, 0};
  if (e.n_out != 1 || e.n_ops < 1 || e.n_ops > 2) return kNone;
  if (c[0] != op_add && c[0] != op_relu_grad) return kNone;
  const bool add = c[0] == op_add;
  const int64_t x = c[2] == 0 ? c[3] : add && c[3] == 0 ? c[2] : 0;
  if (x < 1 || x >= e.n_in) return kNone;
  int64_t result = c[1];
  if (e.n_ops == 2) {
    if (!add || c[4] != op_relu || c[6] != result) return kNone;
    result = c[5];
  }
  if (e.results[0] != result) return kNone;
  return {!add           ? Store::relu_grad
          : e.n_ops == 2 ? Store::bias_relu
                         : Store::bias,
          static_cast<int>(x)};
}

}  // namespace dl::DL_LEVEL
