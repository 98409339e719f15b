// The host's side of the emulation: streams, events, graphs, memory.
#include "cuda_runtime.h"

#include <atomic>
#include <deque>
#include <map>
#include <memory>
#include <mutex>

struct dl_emulated_graph {
  std::vector<std::function<void()>> work;
};

namespace {

// What a stream was given and has not done.
struct Queue {
  std::deque<std::function<void()>> work;
  uint64_t given = 0, done = 0;
};
using SharedQueue = std::shared_ptr<Queue>;

}  // namespace

struct dl_emulated_stream {
  SharedQueue queue = std::make_shared<Queue>();
  std::unique_ptr<dl_emulated_graph> capture;
};
struct dl_emulated_exec {
  std::shared_ptr<const dl_emulated_graph> graph;
};
struct dl_emulated_event {
  SharedQueue queue;  // null: not recorded
  uint64_t position = 0;
};

namespace {

constexpr int kVersion = 13000;

std::atomic<cudaError_t> failure{cudaSuccess};
std::mutex memory_mutex;
std::map<const char*, size_t> memory;  // of the device
std::map<const char*, size_t> pinned;  // of the host
size_t memory_used = 0;
std::map<const void*, size_t> allowed_shared;  // by kernel
thread_local int capturing = 0;                // streams of this thread
thread_local int current = 0;                  // device: only 0 does anything

// Of dynamic shared memory without asking: 48 KB are for static shared memory too, of which no
// kernel has more than 8.
constexpr size_t kSharedUnasked = 40 * 1024;

// Work is done when somebody waits for it and not before, as a busy device might: what is missing
// of the order between streams, and between them and the host, shows. A thread at a time.
std::recursive_mutex work_mutex;
constexpr size_t kMostQueued = 4096;

SharedQueue legacy_stream = std::make_shared<Queue>();
std::vector<std::weak_ptr<Queue>> queues{legacy_stream};

const SharedQueue& queue_of(cudaStream_t stream) { return stream ? stream->queue : legacy_stream; }

void work_to(const SharedQueue& queue, uint64_t position) {
  const std::lock_guard held(work_mutex);
  while (queue->done < position && !queue->work.empty()) {
    const std::function<void()> work = std::move(queue->work.front());
    queue->work.pop_front();
    work();
    ++queue->done;
  }
}

void put(const SharedQueue& queue, std::function<void()> work) {
  const std::lock_guard held(work_mutex);
  queue->work.push_back(std::move(work));
  ++queue->given;
  if (queue->work.size() > kMostQueued) work_to(queue, queue->done + kMostQueued / 2);
}

void work_to_the_end(const SharedQueue& queue) {
  const std::lock_guard held(work_mutex);
  work_to(queue, queue->given);
}

void work_to_the_end() {
  const std::lock_guard held(work_mutex);
  for (const auto& weak : queues) {
    if (const SharedQueue queue = weak.lock()) work_to_the_end(queue);
  }
}

bool is_in(const std::map<const char*, size_t>& blocks, const void* p) {
  const std::lock_guard held(memory_mutex);
  auto after = blocks.upper_bound(static_cast<const char*>(p));
  if (after == blocks.begin()) return false;
  const auto& [begin, bytes] = *--after;
  return static_cast<const char*>(p) < begin + bytes;
}

size_t from_environment(const char* name, size_t otherwise) {
  const char* value = std::getenv(name);
  return value && *value ? std::strtoull(value, nullptr, 10) : otherwise;
}

size_t memory_total() { return from_environment("DLCORE_EMULATION_MEMORY", size_t{1} << 32); }

size_t shared_most() { return from_environment("DLCORE_EMULATION_SHARED", 227 * 1024); }

int driver() { return static_cast<int>(from_environment("DLCORE_EMULATION_DRIVER", kVersion)); }

int runtime() { return static_cast<int>(from_environment("DLCORE_EMULATION_RUNTIME", kVersion)); }

}  // namespace

void dl_emulation::fail(cudaError_t e) { failure = e; }

cudaError_t dl_emulation::submit(cudaStream_t stream, std::function<void()> work) {
  if (current != 0) return cudaErrorInvalidDevice;
  if (stream && stream->capture) {
    stream->capture->work.push_back(std::move(work));
  } else {
    put(queue_of(stream), std::move(work));
  }
  return cudaSuccess;
}

bool dl_emulation::allows_shared(const void* kernel, size_t bytes) {
  const std::lock_guard held(memory_mutex);
  const auto found = allowed_shared.find(kernel);
  return bytes <= (found == allowed_shared.end() ? kSharedUnasked : found->second);
}

const char* cudaGetErrorName(cudaError_t e) {
  switch (e) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorInsufficientDriver:
      return "cudaErrorInsufficientDriver";
    case cudaErrorNoDevice:
      return "cudaErrorNoDevice";
    case cudaErrorInitializationError:
      return "cudaErrorInitializationError";
    case cudaErrorIllegalAddress:
      return "cudaErrorIllegalAddress";
    case cudaErrorLaunchOutOfResources:
      return "cudaErrorLaunchOutOfResources";
    case cudaErrorLaunchFailure:
      return "cudaErrorLaunchFailure";
    case cudaErrorStreamCaptureUnsupported:
      return "cudaErrorStreamCaptureUnsupported";
    case cudaErrorStreamCaptureIsolation:
      return "cudaErrorStreamCaptureIsolation";
    default:
      return "cudaErrorInvalidValue";
  }
}
const char* cudaGetErrorString(cudaError_t e) {
  switch (e) {
    case cudaSuccess:
      return "no error";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorInsufficientDriver:
      return "CUDA driver version is insufficient";
    case cudaErrorNoDevice:
      return "no CUDA-capable device is detected";
    case cudaErrorInitializationError:
      return "initialization error";
    case cudaErrorIllegalAddress:
      return "an illegal memory access was encountered";
    case cudaErrorLaunchOutOfResources:
      return "too many resources requested for launch";
    case cudaErrorLaunchFailure:
      return "unspecified launch failure";
    case cudaErrorStreamCaptureUnsupported:
      return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureIsolation:
      return "dependency created on uncaptured work";
    default:
      return "invalid argument";
  }
}
cudaError_t cudaGetLastError() { return cudaSuccess; }
cudaError_t cudaGetDeviceCount(int* n) {
  *n = static_cast<int>(from_environment("DLCORE_EMULATION_DEVICES", 1));
  if (driver() / 1000 < runtime() / 1000) return cudaErrorInsufficientDriver;
  return *n ? cudaSuccess : cudaErrorNoDevice;
}
cudaError_t cudaGetDevice(int* device) { return *device = current, cudaSuccess; }
cudaError_t cudaSetDevice(int device) {
  int n = 0;
  cudaGetDeviceCount(&n);
  if (device < 0 || device >= n) return cudaErrorInvalidDevice;
  return current = device, cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int) {
  *p = {};
  std::strcpy(p->name, "emulated on the processor");
  p->totalGlobalMem = memory_total();
  p->major = 8;
  p->multiProcessorCount = 2;
  p->sharedMemPerBlockOptin = shared_most();
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) {
  return *value = 2, cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* v) { return *v = driver(), cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int* v) { return *v = runtime(), cudaSuccess; }
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  if (current != 0) return cudaErrorInvalidDevice;
  const std::lock_guard held(memory_mutex);
  *total = memory_total();
  *free = *total - std::min(*total, memory_used);
  return cudaSuccess;
}
cudaError_t cudaMalloc(void** p, size_t bytes) {
  if (current != 0) return cudaErrorInvalidDevice;
  if (capturing) return cudaErrorStreamCaptureUnsupported;
  const std::lock_guard held(memory_mutex);
  const bool fits = bytes <= memory_total() && memory_used <= memory_total() - bytes;
  *p = fits ? std::aligned_alloc(256, (bytes + 511) / 256 * 256) : nullptr;
  if (!*p) return cudaErrorMemoryAllocation;
  std::memset(*p, 0xff, bytes);  // device memory is not zero, and emulated never is
  memory[static_cast<char*>(*p)] = bytes;
  memory_used += bytes;
  return cudaSuccess;
}
cudaError_t cudaFree(void* p) {
  if (capturing) return cudaErrorStreamCaptureUnsupported;
  work_to_the_end();
  const std::lock_guard held(memory_mutex);
  if (const auto found = memory.find(static_cast<char*>(p)); found != memory.end()) {
    memory_used -= found->second;
    memory.erase(found);
  }
  return std::free(p), cudaSuccess;
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* p) {
  *attributes = {};
  if (is_in(memory, p)) attributes->type = cudaMemoryTypeDevice;
  if (is_in(pinned, p)) attributes->type = cudaMemoryTypeHost;
  return cudaSuccess;
}
cudaError_t cudaMallocHost(void** p, size_t bytes) {
  if (capturing) return cudaErrorStreamCaptureUnsupported;
  *p = std::malloc(bytes);
  if (!*p) return cudaErrorMemoryAllocation;
  const std::lock_guard held(memory_mutex);
  pinned[static_cast<char*>(*p)] = bytes;
  return cudaSuccess;
}
cudaError_t cudaFreeHost(void* p) {
  work_to_the_end();
  const std::lock_guard held(memory_mutex);
  pinned.erase(static_cast<char*>(p));
  return std::free(p), cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  const void* host = kind == cudaMemcpyHostToDevice   ? from
                     : kind == cudaMemcpyDeviceToHost ? to
                                                      : nullptr;
  const bool pageable = host && !is_in(pinned, host);  // then the copy is made now
  if (pageable && stream && stream->capture) return cudaErrorStreamCaptureUnsupported;
  dl_emulation::submit(stream, [=] { std::memmove(to, from, bytes); });
  return pageable ? cudaStreamSynchronize(stream) : cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  return dl_emulation::submit(stream, [=] { std::memset(to, value, bytes); });
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* s, unsigned) {
  if (current != 0) return cudaErrorInvalidDevice;
  *s = new dl_emulated_stream;
  const std::lock_guard held(work_mutex);
  std::erase_if(queues, [](const auto& weak) { return weak.expired(); });
  return queues.push_back((*s)->queue), cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t s) {
  work_to_the_end(s->queue);
  return delete s, cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (stream && stream->capture) return cudaErrorStreamCaptureUnsupported;
  work_to_the_end(queue_of(stream));
  return failure;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  if (stream && stream->capture) return cudaErrorStreamCaptureIsolation;
  const std::lock_guard held(work_mutex);
  if (event->queue && event->queue != queue_of(stream))
    put(queue_of(stream), [e = *event] { work_to(e.queue, e.position); });
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() {
  if (capturing) return cudaErrorStreamCaptureUnsupported;
  return work_to_the_end(), failure.load();
}
cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode) {
  s->capture = std::make_unique<dl_emulated_graph>();
  return ++capturing, cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t* graph) {
  --capturing;
  return *graph = s->capture.release(), cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  return *exec = new dl_emulated_exec{std::make_shared<dl_emulated_graph>(*graph)}, cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  return dl_emulation::submit(stream, [graph = exec->graph] {
    for (const auto& work : graph->work) work();
  });
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) { return delete graph, cudaSuccess; }
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) { return delete exec, cudaSuccess; }
cudaError_t cudaEventCreate(cudaEvent_t* e) {
  if (current != 0) return cudaErrorInvalidDevice;
  return *e = new dl_emulated_event, cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* e, unsigned) { return cudaEventCreate(e); }
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t stream) {
  if (stream && stream->capture) return cudaErrorStreamCaptureUnsupported;  // nobody does
  const std::lock_guard held(work_mutex);
  e->queue = queue_of(stream), e->position = e->queue->given;
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t e) {
  if (e->queue) work_to(e->queue, e->position);
  return failure;
}
cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t, cudaEvent_t) {
  return *ms = 0, cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t e) { return delete e, cudaSuccess; }
cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute, int bytes) {
  if (current != 0) return cudaErrorInvalidDevice;
  if (static_cast<size_t>(bytes) > shared_most()) return cudaErrorInvalidValue;
  const std::lock_guard held(memory_mutex);
  allowed_shared[kernel] = bytes;
  return cudaSuccess;
}
