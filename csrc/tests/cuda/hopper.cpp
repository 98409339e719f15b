#include "cuda.h"

namespace {

void expect(bool well, const char* what) {
  if (well) return;
  std::fprintf(stderr, "emulated CUDA: expected %s\n", what);
  std::abort();
}

// The bits of addresses of shared memory that the swizzle of 128 bytes changes.
uint64_t swizzled(uint64_t address) { return address ^ (address >> 7 & 7) << 4; }

int size_of(CUtensorMapDataType type) { return type == CU_TENSOR_MAP_DATA_TYPE_TFLOAT32 ? 4 : 2; }

}  // namespace

CUresult cuTensorMapEncodeTiled(CUtensorMap* map, CUtensorMapDataType type, cuuint32_t rank,
                                void* data, const cuuint64_t* size, const cuuint64_t* strides,
                                const cuuint32_t* box, const cuuint32_t* element_strides,
                                CUtensorMapInterleave, CUtensorMapSwizzle swizzle,
                                CUtensorMapL2promotion, CUtensorMapFloatOOBfill) {
  const uint64_t bytes = size_of(type), most = swizzle == CU_TENSOR_MAP_SWIZZLE_128B ? 128 : 4096;
  bool well = rank == 3 && reinterpret_cast<uintptr_t>(data) % 16 == 0 &&
              reinterpret_cast<uintptr_t>(map) % 64 == 0 && box[0] * bytes % 16 == 0 &&
              box[0] * bytes <= most;
  *map = {type, swizzle, static_cast<const char*>(data), {}, {}, {}};
  for (int d = 0; d < 3; ++d) {
    map->size[d] = size[d];
    map->stride[d] = d == 0 ? bytes : strides[d - 1];
    map->box[d] = box[d];
    well &= size[d] > 0 && size[d] <= uint64_t{1} << 32 && box[d] > 0 && box[d] <= 256;
    well &= element_strides[d] == 1;
    well &= d == 0 || (map->stride[d] % 16 == 0 && map->stride[d] < uint64_t{1} << 40);
  }
  return well ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

cudaError_t cudaGetDriverEntryPointByVersion(const char* name, void** function, unsigned,
                                             unsigned long long,
                                             cudaDriverEntryPointQueryResult* found) {
  *function = std::strcmp(name, "cuTensorMapEncodeTiled")
                  ? nullptr
                  : reinterpret_cast<void*>(&cuTensorMapEncodeTiled);
  *found = *function ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
  return cudaSuccess;
}

namespace dl_emulation {

namespace {

struct Barrier {
  uint16_t arrivals, left;
  int32_t bytes : 31;
  uint32_t parity : 1;  // of the phase under way
};
static_assert(sizeof(Barrier) == 8);

Barrier load(const char* p) {
  expect(shared_offset(p) % 8 == 0, "a barrier at a multiple of 8 bytes of shared memory");
  Barrier b;
  std::memcpy(&b, p, sizeof b);
  return b;
}

void store(char* p, Barrier b) {
  if (b.left == 0 && b.bytes == 0) {
    b.left = b.arrivals;
    b.parity ^= 1;
  }
  std::memcpy(p, &b, sizeof b);
}

struct Box {
  char* to;
  CUtensorMap map;
  char* barrier;
  int64_t at[3];
};

thread_local std::vector<Box> boxes;  // half copied

struct Products {
  std::vector<std::function<void()>> work;
  std::vector<size_t> groups;  // end before these positions
};

Products& products() {
  static thread_local std::vector<Products> of_thread(1024);
  return of_thread[threadIdx.x];
}

float rounded_tf32(float x) {
  const unsigned bits = __float_as_uint(x);
  return (bits & 0x7f800000) == 0x7f800000 ? x : __uint_as_float((bits + 0x1000) & 0xffffe000);
}

// Rows of a box whose number has this rest by 2.
int copy_rows(const Box& b, int rest) {
  const CUtensorMap& map = b.map;
  const int size = size_of(map.type), row_bytes = static_cast<int>(map.box[0]) * size;
  const int rows = static_cast<int>(map.box[1] * map.box[2]);
  const uint64_t first = shared_offset(b.to);
  for (int row = rest; row < rows; row += 2) {
    const int64_t y = b.at[1] + row % map.box[1], z = b.at[2] + row / map.box[1];
    for (int i = 0; i < static_cast<int>(map.box[0]); ++i) {
      const int64_t x = b.at[0] + i, at[3] = {x, y, z};
      bool inside = true;
      uint64_t from = 0;
      for (int d = 0; d < 3; ++d) {
        inside &= at[d] >= 0 && static_cast<uint64_t>(at[d]) < map.size[d];
        from += static_cast<uint64_t>(at[d]) * map.stride[d];
      }
      uint64_t to = first + static_cast<uint64_t>(row) * row_bytes + i * size;
      if (map.swizzle == CU_TENSOR_MAP_SWIZZLE_128B) to = swizzled(to);
      char* place = b.to + (to - first);
      std::memset(place, 0, size);
      if (!inside) continue;
      std::memcpy(place, map.data + from, size);
      if (size == 4) {
        float value;
        std::memcpy(&value, place, 4);
        value = rounded_tf32(value);
        std::memcpy(place, &value, 4);
      }
    }
  }
  return rows * row_bytes;
}

void finish_boxes(char* barrier) {
  std::erase_if(boxes, [&](const Box& box) {
    if (box.barrier != barrier) return false;
    Barrier b = load(barrier);
    b.bytes -= copy_rows(box, 1);
    store(barrier, b);
    return true;
  });
}

}  // namespace

void make_barrier(char* barrier, int arrivals) {
  const Barrier b{static_cast<uint16_t>(arrivals), static_cast<uint16_t>(arrivals), 0, 0};
  std::memcpy(barrier, &b, sizeof b);
}

void arrive(char* barrier, int expected_bytes) {
  Barrier b = load(barrier);
  expect(b.left > 0, "no more arrivals than the barrier counts");
  --b.left;
  b.bytes += expected_bytes;
  store(barrier, b);
}

void wait_phase(char* barrier, int parity) {
  wait_until([=] {
    finish_boxes(barrier);
    return load(barrier).parity != static_cast<unsigned>(parity);
  });
}

void copy_box(char* to, const CUtensorMap& map, char* barrier, int x, int y, int z) {
  expect(shared_offset(to) % 128 == 0, "a box at a multiple of 128 bytes of shared memory");
  boxes.push_back({to, map, barrier, {x, y, z}});
  copy_rows(boxes.back(), 0);
}

void product(std::function<void()> work) { products().work.push_back(std::move(work)); }
void end_products() { products().groups.push_back(products().work.size()); }
void wait_products(int groups_left) {
  Products& p = products();
  const int ready = static_cast<int>(p.groups.size()) - groups_left;
  if (ready <= 0) return;
  const size_t done = p.groups[ready - 1];
  for (size_t i = 0; i < done; ++i) p.work[i]();
  p.work.erase(p.work.begin(), p.work.begin() + done);
  p.groups.erase(p.groups.begin(), p.groups.begin() + ready);
  for (size_t& end : p.groups) end -= done;
}

Operand::Operand(uint64_t descriptor, bool across) : window(shared_window()), across(across) {
  expect(descriptor >> 62 == 1 && (descriptor >> 49 & 7) == 0,
         "a matrix swizzled by 128 bytes from a multiple of 1024 on");
  const auto bytes = [&](int bit) { return (descriptor >> bit & 0x3fff) << 4; };
  start = bytes(0), leading = bytes(16), stride = bytes(32);
}

}  // namespace dl_emulation
