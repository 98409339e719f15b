#include "cpu/kernels/epilogue.h"

namespace dl::DL_LEVEL {

namespace {

enum : int64_t {
#define DL_OP(name, inputs, outputs) kOp_##name,
#include "opcodes.def"
#undef DL_OP
};

}  // namespace

Epilogue match_epilogue(const Expression& e) {
  const int64_t* c = e.code;
  constexpr Epilogue kNone{Store::plain, 0};
  if (e.n_out != 1 || e.n_ops < 1 || e.n_ops > 2) return kNone;
  if (c[0] != kOp_add && c[0] != kOp_relu_grad) return kNone;
  const bool add = c[0] == kOp_add;
  const int64_t x = c[2] == 0 ? c[3] : add && c[3] == 0 ? c[2] : 0;
  if (x < 1 || x >= e.n_in) return kNone;
  int64_t result = c[1];
  if (e.n_ops == 2) {
    if (!add || c[4] != kOp_relu || c[6] != result) return kNone;
    result = c[5];
  }
  if (e.results[0] != result) return kNone;
  return {!add ? Store::relu_grad : e.n_ops == 2 ? Store::bias_relu : Store::bias,
          static_cast<int>(x)};
}

}  // namespace dl::DL_LEVEL
