// Memory of the GPU, with the runtime emulated: what is kept and given back, who may use it next,
// copies, processes that fork, machines without a GPU.        csrc/tests/run.sh cuda_memory
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>

#include "tests/cuda/arrays.h"

static void test_memory() {
  cuda::trim();
  setenv("DLCORE_EMULATION_MEMORY", "100000000", 1);
  {
    const cuda::Memory first(40000000), second(40000000);
    refused([] { cuda::Memory(40000000); },
            {"expected 40000000 bytes", "array", "free of 100000000"});
    refused([] { CudaProgram(1, {}, {{0, 50000000}}); },
            {"expected 5000", "program of 5000", "free of 100000000", "CPU"});
    refused([] { cuda::Memory(int64_t{1} << 62); }, {"expected 4611686018427387904 bytes"});
  }
  const cuda::Memory larger(90000000);  // what was given back makes room
  char* const place = cuda::Memory(300).data();
  const cuda::Memory again(400);  // of the same size when rounded
  CHECK(again.data() == place);
  unsetenv("DLCORE_EMULATION_MEMORY");
}

// What others have queued for memory that they had comes before its next user.
static void test_memory_that_others_used() {
  constexpr int64_t kBytes = 1000;
  cudaStream_t theirs = nullptr;
  CHECK(cudaStreamCreateWithFlags(&theirs, cudaStreamNonBlocking) == cudaSuccess);
  for (const cuda::Users users : {cuda::Users::in_streams, cuda::Users::anybody}) {
    for (const cudaStream_t stream : {cudaStream_t{}, theirs}) {
      {
        const cuda::InOrder given(stream);
      }
      auto* first = new cuda::Memory(kBytes);
      char* const place = first->data();
      first->share(users);
      CHECK(cudaMemsetAsync(place, 1, kBytes, stream) == cudaSuccess);
      delete first;
      const cuda::Memory second(kBytes);
      CHECK(second.data() == place);
      CHECK(cudaMemsetAsync(place, 2, kBytes, cuda::main_stream()) == cudaSuccess);
      char value = 0;
      cuda::copy_to_host(&value, place, 1, cuda::main_stream());
      CHECK(cudaStreamSynchronize(stream) == cudaSuccess);
      cuda::copy_to_host(&value, place, 1, cuda::main_stream());
      CHECK(value == 2);
    }
  }
  CHECK(cudaStreamDestroy(theirs) == cudaSuccess);
}

static void test_copies() {
  for (const int64_t n : {int64_t{0}, int64_t{1}, int64_t{1} << 20, (int64_t{3} << 20) + 7}) {
    const std::vector<int32_t> values = count(n);
    CHECK(Array(values).get() == values);
  }
}

static void test_fork() {
  const pid_t child = fork();
  if (child == 0) {
    refused([] { cuda::Memory(4); }, {"forked", "spawn"});
    refused([] { CudaProgram(1, {}, {}); }, {"forked"});
    refused([] { cuda::unavailable(); }, {"forked"});
    cuda::trim();
    _exit(0);
  }
  int status = 1;
  CHECK(waitpid(child, &status, 0) == child && status == 0);
}

static void test_unavailable() {
  const auto why = [](const char* name, const char* value) {
    setenv(name, value, 1);
    const std::string sentence = cuda::unavailable();
    unsetenv(name);
    return sentence;
  };
  CHECK(why("DLCORE_EMULATION_DEVICES", "0").find("a GPU, got none") != std::string::npos);
  CHECK(why("DLCORE_EMULATION_DRIVER", "0").find("driver, got none") != std::string::npos);
  CHECK(why("DLCORE_EMULATION_DRIVER", "12080").find("for CUDA 12.8") != std::string::npos);
  setenv("DLCORE_EMULATION_DEVICES", "0", 1);
  refused([] { cuda::OnDevice(); }, {"expected a GPU, got none"});
  unsetenv("DLCORE_EMULATION_DEVICES");
  CHECK(cuda::unavailable().empty());
}

int main() {
  test_unavailable();
  test_fork();  // of a process that has only asked whether there is a GPU
  test_memory();
  test_memory_that_others_used();
  test_copies();
  test_fork();
  std::puts("cuda_memory: ok");
}
