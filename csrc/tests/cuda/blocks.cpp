// The device of the emulation: blocks of a kernel one after the other, their threads as fibers.
#include "cuda_runtime.h"

#include <sys/mman.h>

#if !defined(__x86_64__)
#error "fibers are written for x86-64"
#endif

thread_local uint3 threadIdx, blockIdx;
thread_local dim3 blockDim, gridDim;

namespace dl_emulation {

namespace {

constexpr size_t kStack = 256 * 1024;
constexpr int kMaxBlock = 1024;
constexpr size_t kSharedAlignment = 1024;

// Saves the registers that a function must keep, and goes on where the other stack stopped.
extern "C" void dl_switch(void** save, void* stack);
asm(R"(
.text
.local dl_switch
dl_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
)");

struct Barrier {
  int waiting = 0, members = 0;
  uint64_t round = 0;
};

struct Copy {
  void* to;
  const void* from;
  int bytes;
};

struct Fiber {
  void* stack = nullptr;  // where it stopped
  char* memory = nullptr;
  bool done = false;
  const Barrier* waits = nullptr;  // for the end of a round of this barrier
  uint64_t round = 0;
  const std::function<bool()>* until = nullptr;  // or for this to be so
  uint3 index{};
  std::vector<Copy> copies;  // that wait; groups end before the positions in `groups`
  std::vector<size_t> groups;
};

struct Block {
  std::vector<Fiber> fibers;
  std::vector<Barrier> warps;
  std::vector<char> slots, shared;
  Barrier all;
  void* scheduler = nullptr;
  int current = 0;
  const std::function<void()>* body = nullptr;

  Block() : fibers(kMaxBlock), warps(kMaxBlock / warpSize), slots(kMaxBlock * kSlot) {}
  ~Block() {
    for (Fiber& f : fibers) {
      if (f.memory) munmap(f.memory, kStack);
    }
  }
};

Block& block() {
  static thread_local Block block;
  return block;
}

void to_scheduler(Block& b) { dl_switch(&b.fibers[b.current].stack, b.scheduler); }

void leave(Barrier& barrier) {
  if (--barrier.members > 0 && barrier.waiting == barrier.members) {
    barrier.waiting = 0;
    ++barrier.round;
  }
}

void enter() {
  Block& b = block();
  (*b.body)();
  b.fibers[b.current].done = true;
  leave(b.all);
  leave(b.warps[b.current / warpSize]);
  to_scheduler(b);
  std::abort();
}

void wait(Barrier& barrier) {
  Block& b = block();
  if (++barrier.waiting == barrier.members) {
    barrier.waiting = 0;
    ++barrier.round;
    return;
  }
  Fiber& fiber = b.fibers[b.current];
  fiber.waits = &barrier;
  fiber.round = barrier.round;
  to_scheduler(b);
}

void prepare(Fiber& fiber) {
  if (!fiber.memory) {
    void* memory =
        mmap(nullptr, kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) std::abort();
    fiber.memory = static_cast<char*>(memory);
  }
  auto** top = reinterpret_cast<void**>(fiber.memory + kStack) - 2;  // so that it is aligned
  *top = reinterpret_cast<void*>(enter);
  fiber.stack = top - 6;  // six saved registers, of any value
  fiber.done = false;
  fiber.waits = nullptr;
  fiber.until = nullptr;
  fiber.copies.clear();
  fiber.groups.clear();
}

bool reverse() {
  static const bool wanted = [] {
    const char* order = std::getenv("DLCORE_EMULATION_ORDER");
    return order && !std::strcmp(order, "reverse");
  }();
  return wanted;
}

void run_block(Block& b, int threads) {
  b.all = {0, threads, 0};
  for (int w = 0; w * warpSize < threads; ++w)
    b.warps[w] = {0, std::min(warpSize, threads - w * warpSize), 0};
  for (int left = threads; left > 0;) {
    bool progress = false;
    for (int i = 0; i < threads; ++i) {
      const int t = reverse() ? threads - 1 - i : i;
      Fiber& fiber = b.fibers[t];
      if (fiber.done || (fiber.waits && fiber.waits->round == fiber.round)) continue;
      if (fiber.until && !(*fiber.until)()) continue;
      fiber.waits = nullptr;
      fiber.until = nullptr;
      b.current = t;
      threadIdx = fiber.index;
      dl_switch(&b.scheduler, fiber.stack);
      progress = true;
      left -= fiber.done;
    }
    if (!progress) {
      std::fprintf(stderr, "emulated CUDA: a barrier that not all threads reach\n");
      std::abort();
    }
  }
}

}  // namespace

// Address 0 is aligned as far as kernels can ask for, dynamic memory only to the 16 bytes promised.
const char* shared_window() {
  const char* p = block().shared.data();
  return p + (-reinterpret_cast<uintptr_t>(p) & (kSharedAlignment - 1));
}
uint64_t shared_offset(const void* p) {
  return static_cast<uint64_t>(static_cast<const char*>(p) - shared_window());
}
void* dynamic_shared() { return const_cast<char*>(shared_window()) + 16; }
void block_barrier() { wait(block().all); }
void warp_barrier() { wait(block().warps[block().current / warpSize]); }
int lane() { return block().current % warpSize; }
char* warp_slot(int lane) {
  Block& b = block();
  return b.slots.data() + (b.current / warpSize * warpSize + lane) * kSlot;
}

void wait_until(const std::function<bool()>& passed) {
  Block& b = block();
  if (passed()) return;
  b.fibers[b.current].until = &passed;
  to_scheduler(b);
}

void copy_later(void* to, const void* from, int bytes) {
  Block& b = block();
  b.fibers[b.current].copies.push_back({to, from, bytes});
}
void end_copies() {
  Fiber& fiber = block().fibers[block().current];
  fiber.groups.push_back(fiber.copies.size());
}
void wait_copies(int groups_left) {
  Fiber& fiber = block().fibers[block().current];
  const int ready = static_cast<int>(fiber.groups.size()) - groups_left;
  if (ready <= 0) return;
  const size_t done = fiber.groups[ready - 1];
  for (size_t i = 0; i < done; ++i) {
    const Copy& copy = fiber.copies[i];
    std::memset(copy.to, 0, 16);
    if (copy.bytes > 0) std::memcpy(copy.to, copy.from, copy.bytes);
  }
  fiber.copies.erase(fiber.copies.begin(), fiber.copies.begin() + done);
  fiber.groups.erase(fiber.groups.begin(), fiber.groups.begin() + ready);
  for (size_t& end : fiber.groups) end -= done;
}

void run(dim3 grid, dim3 size, size_t shared_bytes, const std::function<void()>& body) {
  Block& b = block();
  b.body = &body;
  b.shared.resize(shared_bytes + kSharedAlignment + 16);
  gridDim = grid;
  blockDim = size;
  const int threads = static_cast<int>(size.x * size.y * size.z);
  const uint64_t blocks = uint64_t{grid.x} * grid.y * grid.z;
  for (uint64_t i = 0; i < blocks; ++i) {
    const uint64_t n = reverse() ? blocks - 1 - i : i;
    blockIdx = {static_cast<unsigned>(n % grid.x), static_cast<unsigned>(n / grid.x % grid.y),
                static_cast<unsigned>(n / grid.x / grid.y)};
    std::fill(b.shared.begin(), b.shared.end(), '\xff');  // NaN: nobody may count on zeros
    for (int t = 0; t < threads; ++t) {
      Fiber& fiber = b.fibers[t];
      prepare(fiber);
      fiber.index = {t % size.x, t / size.x % size.y, t / (size.x * size.y)};
    }
    run_block(b, threads);
  }
}

}  // namespace dl_emulation
