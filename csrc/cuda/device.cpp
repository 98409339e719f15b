#include "cuda/device.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <map>
#include <mutex>
#include <vector>

namespace dl::cuda {

namespace {

constexpr int64_t kGranule = 512;                    // sizes are multiples of it
constexpr int64_t kLarge = int64_t{1} << 20;         // from here on of kLargeGranule
constexpr int64_t kLargeGranule = int64_t{2} << 20;  // which is how drivers map memory
constexpr int64_t kChunk = int64_t{4} << 20;         // of a copy by way of pinned memory
constexpr int kChunks = 2;                           // one is filled while the other is copied
constexpr int64_t kMost = int64_t{1} << 46;          // no device has so much memory
constexpr int kLeastMajor = 8;                       // compute capability
constexpr int kLeastDriver = 12010;                  // from here on kernels take 8 KB of arguments

struct Free {
  char* data;
  Users users;
};

struct Device {
  cudaStream_t stream = nullptr, side = nullptr;  // side: of copies
  std::mutex order_mutex;
  cudaEvent_t order = nullptr;
  std::atomic<bool> other_streams{false};  // of the caller, beside stream 0, which CuPy begins with

  std::mutex pool_mutex;
  std::map<int64_t, std::vector<Free>> pool;

  std::mutex copy_mutex;
  char* chunks[kChunks] = {};
  cudaEvent_t copied[kChunks] = {};
  int next_chunk = 0;

  std::mutex names_mutex;
  std::vector<std::shared_ptr<const std::string>> queued;
};

std::mutex device_mutex;
std::atomic<Device*> device{nullptr};  // never deleted: the driver may be gone before us
std::atomic<bool> forked{false};       // from a process that had used the device

std::string version(int v) {
  return std::to_string(v / 1000) + "." + std::to_string(v % 1000 / 10);
}

std::string text(cudaError_t e) {
  return std::string(cudaGetErrorString(e)) + " (" + cudaGetErrorName(e) + ")";
}

[[noreturn]] void refuse_fork() {
  throw Error(
      "cuda: expected the process that first used the GPU, got one forked from it; start workers "
      "with multiprocessing's \"spawn\"");
}

Device& get() { return *device.load(std::memory_order_acquire); }

// The driver does not survive a fork once it has been asked anything.
void watch_forks() {
  static const int watching = pthread_atfork(nullptr, nullptr, [] { forked = true; });
  static_cast<void>(watching);
}

// The current device is ours.
void start() {
  const std::lock_guard held(device_mutex);
  if (device.load()) return;
  auto fresh = std::make_unique<Device>();
  check(cudaStreamCreateWithFlags(&fresh->stream, cudaStreamNonBlocking), "to make a stream");
  check(cudaStreamCreateWithFlags(&fresh->side, cudaStreamNonBlocking), "to make a stream");
  check(cudaEventCreateWithFlags(&fresh->order, cudaEventDisableTiming), "to make an event");
  device.store(fresh.release(), std::memory_order_release);
}

int64_t rounded(int64_t bytes) {
  const int64_t granule = bytes < kLarge ? kGranule : kLargeGranule;
  return (std::max<int64_t>(bytes, 1) + granule - 1) / granule * granule;
}

// The pool's mutex is held.
void release(Device& d) {
  cudaDeviceSynchronize();  // what failed is reported elsewhere
  for (auto& [bytes, blocks] : d.pool) {
    for (const Free& block : blocks) cudaFree(block.data);
  }
  d.pool.clear();
}

[[noreturn]] void refuse_memory(int64_t bytes, int64_t planned) {
  size_t free = 0, total = 0;
  cudaMemGetInfo(&free, &total);
  const std::string wanted = std::to_string(bytes) + " bytes";
  throw OutOfMemory(
      "cuda: expected " + wanted + " of device memory for " +
      (planned > 0 ? "a program of " + std::to_string(planned) + " planned bytes" : "an array") +
      ", got " + std::to_string(free) + " free of " + std::to_string(total) +
      "; use smaller batches, or the CPU");
}

// Work given to `stream` from now on waits for all that `other` has been given.
cudaError_t follow(Device& d, cudaStream_t stream, cudaStream_t other) {
  if (stream == other) return cudaSuccess;
  const std::lock_guard held(d.order_mutex);
  if (const cudaError_t e = cudaEventRecord(d.order, other); e != cudaSuccess) return e;
  return cudaStreamWaitEvent(stream, d.order, 0);
}

// What others do with arrays of ours comes first. Streams of theirs but stream 0 may be gone by
// now.
void wait_for_others(Device& d, Users users) {
  if (users == Users::in_streams && !d.other_streams) {
    check(follow(d, d.stream, nullptr), "to put streams in order");
  } else {
    check_finished(cudaDeviceSynchronize());
  }
}

// Waits until chunk k may be written.
char* chunk(Device& d, int k) {
  if (d.chunks[k]) {
    check_finished(cudaEventSynchronize(d.copied[k]));
  } else {
    void* p = nullptr;
    check(cudaEventCreateWithFlags(&d.copied[k], cudaEventDisableTiming), "to make an event");
    check(cudaMallocHost(&p, kChunk), "to get pinned memory");
    d.chunks[k] = static_cast<char*>(p);
  }
  return d.chunks[k];
}

}  // namespace

std::string unavailable() {
  if (forked) refuse_fork();
  int driver = 0, runtime = 0, n = 0;
  cudaDriverGetVersion(&driver);
  cudaRuntimeGetVersion(&runtime);
  if (driver == 0) return "cuda: expected NVIDIA's driver, got none";
  watch_forks();
  const cudaError_t result = cudaGetDeviceCount(&n);
  if (result == cudaErrorInsufficientDriver || driver < kLeastDriver) {
    const int least = std::max(runtime / 1000 * 1000, kLeastDriver);
    return "cuda: expected a driver for CUDA " + version(least) + " or newer, got one for CUDA " +
           version(driver) + "; update NVIDIA's driver";
  }
  if (result == cudaErrorNoDevice || (result == cudaSuccess && n == 0))
    return "cuda: expected a GPU, got none; CUDA_VISIBLE_DEVICES may hide it";
  if (result == cudaErrorInitializationError) {
    return "cuda: expected a driver that starts, got " + text(result) +
           "; in a process forked from one that used a GPU it does not: start workers with "
           "multiprocessing's \"spawn\"";
  }
  if (result != cudaSuccess) return "cuda: expected a GPU, got " + text(result);
  cudaDeviceProp properties;
  if (const cudaError_t e = cudaGetDeviceProperties(&properties, 0); e != cudaSuccess)
    return "cuda: expected a GPU, got " + text(e);
  if (properties.major < kLeastMajor) {
    return "cuda: expected a GPU of compute capability " + std::to_string(kLeastMajor) +
           ".0 or more, got " + properties.name + " of " + std::to_string(properties.major) + "." +
           std::to_string(properties.minor);
  }
  return "";
}

OnDevice::OnDevice() {
  if (forked) refuse_fork();
  const bool started = device.load(std::memory_order_acquire);
  if (!started) {
    if (const std::string why = unavailable(); !why.empty()) throw Error(why);
  }
  check(cudaGetDevice(&before_), "the current device");
  if (before_ != 0) check(cudaSetDevice(0), "to choose the device");
  if (!started) start();
}

OnDevice::~OnDevice() {
  if (before_ != 0) cudaSetDevice(before_);
}

bool in_fork() { return forked; }

bool asynchronous(cudaError_t result) {
  switch (result) {
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorLaunchFailure:
      return true;
    default:
      return false;
  }
}

void check(cudaError_t result, const char* what) {
  if (result == cudaSuccess) return;
  if (asynchronous(result)) check_finished(result);
  cudaGetLastError();  // reported here, and not once more elsewhere
  throw Error(std::string("cuda: expected ") + what + ", got " + text(result));
}

void check_finished(cudaError_t result) {
  if (result == cudaSuccess) return;
  cudaGetLastError();
  std::string names;
  if (Device* d = device.load()) {
    const std::lock_guard held(d->names_mutex);
    for (const auto& name : d->queued) names += (names.empty() ? "" : "; ") + *name;
  }
  throw Error((names.empty() ? "cuda" : names) + ": expected to run on the device, got " +
              text(result) +
              "; set DLCORE_CUDA_SYNC=1 to have the kernel named, and start a new process");
}

void note_queued(const std::shared_ptr<const std::string>& names) {
  constexpr size_t kRecent = 8;
  Device& d = get();
  const std::lock_guard held(d.names_mutex);
  if (std::find(d.queued.begin(), d.queued.end(), names) != d.queued.end()) return;
  if (d.queued.size() == kRecent) d.queued.erase(d.queued.begin());
  d.queued.push_back(names);
}

cudaStream_t main_stream() { return get().stream; }

void wait(cudaStream_t stream) {
  check_finished(cudaStreamSynchronize(stream));
  Device& d = get();
  const std::lock_guard held(d.names_mutex);
  d.queued.clear();
}

void wait_for(cudaStream_t stream) {
  check(follow(get(), get().stream, stream), "to put streams in order");
}

InOrder::InOrder(cudaStream_t stream) : stream_(stream) {
  Device& d = get();
  if (stream && stream != d.stream) d.other_streams = true;
  check(follow(d, stream, d.stream), "to put streams in order");
}

InOrder::~InOrder() { follow(get(), get().stream, stream_); }

Memory::Memory(int64_t bytes, int64_t planned) {
  const OnDevice here;
  if (bytes > kMost) refuse_memory(bytes, planned);
  Device& d = get();
  const int64_t size = rounded(bytes);
  const std::lock_guard held(d.pool_mutex);
  if (const auto found = d.pool.find(size); found != d.pool.end()) {
    const Free block = found->second.back();
    if (block.users != Users::we) wait_for_others(d, block.users);
    found->second.pop_back();
    if (found->second.empty()) d.pool.erase(found);
    data_ = block.data;
  } else {
    void* p = nullptr;
    cudaError_t result = cudaMalloc(&p, size);
    if (result == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      release(d);
      result = cudaMalloc(&p, size);
    }
    if (result == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      refuse_memory(bytes, planned);
    }
    check(result, "to get device memory");
    data_ = static_cast<char*>(p);
  }
  bytes_ = bytes;
}

Memory::Memory(Memory&& other) noexcept { *this = std::move(other); }

Memory& Memory::operator=(Memory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  std::swap(users_, other.users_);
  return *this;
}

Memory::~Memory() {
  if (!data_ || forked) return;
  Device& d = get();
  const std::lock_guard held(d.pool_mutex);
  d.pool[rounded(bytes_)].push_back({data_, users_});
}

void trim() {
  if (!device.load() || forked) return;
  const OnDevice here;
  const std::lock_guard held(get().pool_mutex);
  release(get());
}

void copy_to_device(char* to, const void* from, int64_t bytes, cudaStream_t stream) {
  Device& d = get();
  for (int64_t at = 0; at < bytes; at += kChunk) {
    const std::lock_guard held(d.copy_mutex);
    const int64_t n = std::min(kChunk, bytes - at);
    const int k = d.next_chunk;
    d.next_chunk = (k + 1) % kChunks;
    std::memcpy(chunk(d, k), static_cast<const char*>(from) + at, n);
    check(cudaMemcpyAsync(to + at, d.chunks[k], n, cudaMemcpyHostToDevice, stream),
          "to copy to the device");
    check(cudaEventRecord(d.copied[k], stream), "to record an event");
  }
}

void copy_beside(char* to, const void* from, int64_t bytes) {
  Device& d = get();
  copy_to_device(to, from, bytes, d.side);
  check(follow(d, d.stream, d.side), "to put streams in order");
}

void copy_to_host(void* to, const char* from, int64_t bytes, cudaStream_t stream) {
  Device& d = get();
  const std::lock_guard held(d.copy_mutex);
  const auto collect = [&](int64_t at, int k) {
    check_finished(cudaEventSynchronize(d.copied[k]));
    std::memcpy(static_cast<char*>(to) + at, d.chunks[k], std::min(kChunk, bytes - at));
  };
  int64_t at = 0;
  for (; at < bytes; at += kChunk) {
    const int k = static_cast<int>(at / kChunk) % kChunks;
    chunk(d, k);
    check(cudaMemcpyAsync(d.chunks[k], from + at, std::min(kChunk, bytes - at),
                          cudaMemcpyDeviceToHost, stream),
          "to copy to the host");
    check(cudaEventRecord(d.copied[k], stream), "to record an event");
    if (at > 0) collect(at - kChunk, (k + kChunks - 1) % kChunks);
  }
  if (at > 0) collect(at - kChunk, static_cast<int>(at / kChunk - 1) % kChunks);
}

}  // namespace dl::cuda
