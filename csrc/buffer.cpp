#include "buffer.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>
#include <stdexcept>
#include <string>

namespace dl {

namespace {

constexpr int64_t kHugePage = int64_t{2} << 20;
constexpr int64_t kCacheLine = 64;

int64_t alignment_for(int64_t bytes) { return bytes >= kHugePage ? kHugePage : kCacheLine; }

[[noreturn]] void refuse(const std::string& sentence) { throw std::invalid_argument(sentence); }

}  // namespace

int64_t Buffer::rounded(int64_t bytes) {
  if (bytes <= 0) return 0;
  const int64_t alignment = alignment_for(bytes);
  if (bytes > INT64_MAX - alignment) throw std::bad_alloc();
  return (bytes + alignment - 1) / alignment * alignment;
}

Buffer::Buffer(int64_t bytes) {
  if (bytes <= 0) return;
  const int64_t alignment = alignment_for(bytes), size = rounded(bytes);
  void* p = nullptr;
  if (posix_memalign(&p, alignment, size) != 0) throw std::bad_alloc();
  data_.reset(static_cast<char*>(p));
  if (alignment == kHugePage)
    madvise(p, size, MADV_HUGEPAGE);  // only advice: the result does not matter
  std::memset(p, 0, size);
}

void Buffer::Free::operator()(char* p) const { std::free(p); }

int64_t checked_add(int64_t a, int64_t b) {
  int64_t sum;
  if (__builtin_add_overflow(a, b, &sum))
    refuse("program: expected addresses within 63 bits, got an overflow");
  return sum;
}

int64_t checked_multiply(int64_t a, int64_t b) {
  int64_t product;
  if (__builtin_mul_overflow(a, b, &product))
    refuse("program: expected sizes within 63 bits, got an overflow");
  return product;
}

// Bytes that a tensor touches around its data pointer. Kernels multiply shapes without looking: so
// must fit too.
Range extent_of(const Tensor& t) {
  const int64_t size = size_of(t.dtype);
  Range range{0, size};
  int64_t bytes = size;
  bool empty = false;
  for (int d = 0; d < t.rank; ++d) {
    if (t.shape[d] < 0) refuse("program: expected shapes >= 0, got " + std::to_string(t.shape[d]));
    empty |= t.shape[d] == 0;
    bytes = checked_multiply(bytes, std::max<int64_t>(t.shape[d], 1));
    const int64_t span =
        checked_multiply(checked_multiply(std::max<int64_t>(t.shape[d], 1) - 1, t.stride[d]), size);
    int64_t& side = span < 0 ? range.low : range.high;
    side = checked_add(side, span);
  }
  return empty ? Range{} : range;
}

Range shifted(Range r, int64_t by) { return {checked_add(r.low, by), checked_add(r.high, by)}; }

Range hull(Range a, Range b) {
  if (is_empty(a)) return b;
  if (is_empty(b)) return a;
  return {std::min(a.low, b.low), std::max(a.high, b.high)};
}

bool inside(Range inner, Range outer) {
  return is_empty(inner) || (outer.low <= inner.low && inner.high <= outer.high);
}

}  // namespace dl
