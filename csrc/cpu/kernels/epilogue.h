// Epilogues that a register tile applies while it stores its sums.
#pragma once

#include "cpu/kernels/expression.h"
#include "cpu/kernels/gemm_tile.h"

namespace dl::DL_LEVEL {

struct Epilogue {
  Store store;
  int input;  // of the expression: bias, or y of relu_grad; 0 when the expression is something else
};

// Recognises sum + bias, relu(sum + bias) and relu_grad(sum, y), where input 0 is the sum.
Epilogue match_epilogue(const Expression& e);

}  // namespace dl::DL_LEVEL
