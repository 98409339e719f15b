// The pool: memory of dead arrays is kept for the next ones, so that large temporaries are not
// mapped and faulted anew at each call (which costs more than most kernels). A block starts with a
// small Python object that owns it; the array has it as its base, and when the array dies the
// object's dealloc puts the block back.
#include "bind/arrays.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstdlib>

namespace dl::bind {

namespace {

using Api = py::detail::npy_api;

const Api* numpy = nullptr;
PyTypeObject* array_type = nullptr;

constexpr int kTypes = 24;  // NumPy's type numbers below this include all of ours
int8_t dtype_of_number[kTypes];
constexpr int kNumbers[] = {Api::NPY_FLOAT_, Api::NPY_DOUBLE_, Api::NPY_INT32_,
                            Api::NPY_INT64_, Api::NPY_UINT8_,  Api::NPY_BOOL_};
constexpr const char* kNames[] = {"float32", "float64", "int32",    "int64",
                                  "uint8",   "bool",    "bfloat16", "float16"};

PyObject* descriptors[kArrayDTypes];

constexpr int64_t kMaxFree = int64_t{256} << 20;
constexpr int64_t kHugePage = int64_t{2} << 20;
constexpr int64_t kHeader = 64;  // keeps the data on a cache line
constexpr int kClasses = 4 * 50;

struct Block {
  PyObject head;
  int size_class;
  Block* next;
};
static_assert(sizeof(Block) <= kHeader);

Block* free_blocks[kClasses];
int64_t free_bytes = 0;

// Sizes are rounded up to 5, 6, 7 or 8 eighths of a power of two.
int class_of(int64_t bytes) {
  const uint64_t n = static_cast<uint64_t>(std::max<int64_t>(bytes, 256)) - 1;
  const int shift = std::bit_width(n) - 3;
  return 4 * shift + static_cast<int>(n >> shift) - 4;
}

int64_t bytes_of_class(int size_class) { return int64_t{size_class % 4 + 5} << (size_class / 4); }

void release_free_blocks() {
  for (Block*& head : free_blocks) {
    while (Block* block = head) {
      head = block->next;
      std::free(block);
    }
  }
  free_bytes = 0;
}

void give_back(PyObject* self) {
  Block* block = reinterpret_cast<Block*>(self);
  const int64_t bytes = bytes_of_class(block->size_class);
  if (bytes > kMaxFree) {
    std::free(block);
    return;
  }
  if (free_bytes + bytes > kMaxFree) release_free_blocks();  // of sizes that were wanted before
  block->next = free_blocks[block->size_class];
  free_blocks[block->size_class] = block;
  free_bytes += bytes;
}

PyTypeObject make_block_type() {
  PyTypeObject type = {};
  reinterpret_cast<PyObject*>(&type)->ob_refcnt = 1;
  type.tp_name = "dlcore.Block";
  type.tp_basicsize = kHeader;
  type.tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION;
  type.tp_dealloc = give_back;
  return type;
}

PyTypeObject block_type = make_block_type();

Block* take(int64_t bytes) {
  const int size_class = class_of(bytes);
  Block* block = free_blocks[size_class];
  if (block) {
    free_blocks[size_class] = block->next;
    free_bytes -= bytes_of_class(size_class);
  } else {
    const int64_t size = bytes_of_class(size_class);
    void* p = nullptr;
    if (posix_memalign(&p, size >= kHugePage ? kHugePage : kHeader, size) != 0) return nullptr;
    if (size >= kHugePage)
      madvise(p, size, MADV_HUGEPAGE);  // only advice: the result does not matter
    block = static_cast<Block*>(p);
    block->size_class = size_class;
  }
  PyObject_Init(&block->head, &block_type);
  return block;
}

}  // namespace

void init_arrays() {
  numpy = &Api::get();
  array_type = numpy->PyArray_Type_;
  std::fill(dtype_of_number, dtype_of_number + kTypes, int8_t{-1});
  for (int i = 0; i < kArrayDTypes; ++i) {
    dtype_of_number[kNumbers[i]] = static_cast<int8_t>(i);
    descriptors[i] = numpy->PyArray_DescrFromType_(kNumbers[i]);
  }
  static_assert(sizeof(long long) == 8);
  dtype_of_number[Api::NPY_LONGLONG_] = static_cast<int8_t>(DType::i64);
  if (PyType_Ready(&block_type) < 0) throw py::error_already_set();
}

py::detail::PyArray_Proxy* proxy(PyObject* array) {
  return reinterpret_cast<py::detail::PyArray_Proxy*>(array);
}

int dtype_of(PyObject* array) {
  const auto* descriptor = reinterpret_cast<py::detail::PyArrayDescr_Proxy*>(proxy(array)->descr);
  const int number = descriptor->type_num;
  if (number < 0 || number >= kTypes || descriptor->byteorder == '>') return -1;
  return dtype_of_number[number];
}

bool is_plain(PyObject* object) {
  constexpr int kFlags = Api::NPY_ARRAY_C_CONTIGUOUS_ | Api::NPY_ARRAY_ALIGNED_;
  return Py_TYPE(object) == array_type && (proxy(object)->flags & kFlags) == kFlags &&
         dtype_of(object) >= 0;
}

int64_t size_in_bytes(PyObject* array) {
  int64_t bytes = size_of(static_cast<DType>(dtype_of(array)));
  for (int d = 0; d < proxy(array)->nd; ++d) bytes *= proxy(array)->dimensions[d];
  return bytes;
}

Range extent_of_array(PyObject* array) {
  Range range{0, size_of(static_cast<DType>(dtype_of(array)))};
  const auto* a = proxy(array);
  for (int d = 0; d < a->nd; ++d) {
    if (a->dimensions[d] == 0) return {};
    const int64_t span = (a->dimensions[d] - 1) * a->strides[d];
    (span < 0 ? range.low : range.high) += span;
  }
  return range;
}

PyObject* new_array(DType dtype, int rank, const py::ssize_t* shape) {
  int64_t bytes = size_of(dtype);
  for (int d = 0; d < rank; ++d) {
    if (shape[d] < 0) {
      PyErr_Format(PyExc_ValueError, "empty: expected a shape >= 0, got %zd", shape[d]);
      return nullptr;
    }
    if (__builtin_mul_overflow(bytes, shape[d], &bytes) || bytes > (int64_t{1} << 47)) {
      PyErr_SetString(PyExc_MemoryError, "array: expected less than 2**47 bytes, got more");
      return nullptr;
    }
  }
  Block* block = take(kHeader + bytes);
  if (!block) {
    return PyErr_Format(PyExc_MemoryError, "array: expected room for %lld bytes, got none",
                        static_cast<long long>(bytes));
  }
  constexpr int kFlags =
      Api::NPY_ARRAY_C_CONTIGUOUS_ | Api::NPY_ARRAY_ALIGNED_ | Api::NPY_ARRAY_WRITEABLE_;
  PyObject* descriptor = descriptors[static_cast<int>(dtype)];
  Py_INCREF(descriptor);  // the call takes it
  PyObject* array =
      numpy->PyArray_NewFromDescr_(array_type, descriptor, rank, shape, nullptr,
                                   reinterpret_cast<char*>(block) + kHeader, kFlags, nullptr);
  if (!array) {
    Py_DECREF(&block->head);
    return nullptr;
  }
  if (numpy->PyArray_SetBaseObject_(array, &block->head) <
      0) {  // takes the block, also when it fails
    Py_DECREF(array);
    return nullptr;
  }
  return array;
}

std::string describe(int dtype, int rank, const py::ssize_t* shape) {
  std::string text = dtype < 0 ? "another dtype" : kNames[dtype];
  if (rank < 0) return text;
  text += " (";
  for (int d = 0; d < rank; ++d)
    text += std::to_string(shape[d]) + (d + 1 < rank ? ", " : rank == 1 ? "," : "");
  return text + ")";
}

std::string describe(PyObject* object) {
  if (Py_TYPE(object) != array_type) return Py_TYPE(object)->tp_name;
  const char* layout =
      is_plain(object) || dtype_of(object) < 0 ? "" : ", not C-contiguous and aligned";
  return describe(dtype_of(object), proxy(object)->nd, proxy(object)->dimensions) + layout;
}

DType dtype_from_code(int64_t code, int known) {
  if (code < 0 || code >= known) {
    throw py::value_error("program: expected a dtype code from 0 to " + std::to_string(known - 1) +
                          ", got " + std::to_string(code));
  }
  return static_cast<DType>(code);
}

}  // namespace dl::bind
