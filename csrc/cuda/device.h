// The GPU as programs and arrays see it: device 0 (CUDA_VISIBLE_DEVICES chooses which that is), its
// main stream, a pool of its memory, and copies by way of pinned memory.
//
// All work is put in order with the main stream: work on a stream of the caller's waits for what
// the main stream has been given, and the main stream then waits for it. So memory that is given
// back may be handed out at once: its next user comes later in that order.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>

namespace dl::cuda {

// What went wrong, and the kernels that may have done it.
class Error : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

class OutOfMemory : public std::bad_alloc {
 public:
  explicit OutOfMemory(std::string sentence) : sentence_(std::move(sentence)) {}
  const char* what() const noexcept override { return sentence_.c_str(); }

 private:
  std::string sentence_;
};

// Why no GPU can be used, in one sentence; empty if one can.
std::string unavailable();

// While it lives, this thread talks to our device, whichever another library has chosen for it.
// Throws Error if there is none, or if this process was forked from one that used a GPU.
class OnDevice {
 public:
  OnDevice();
  ~OnDevice();
  OnDevice(const OnDevice&) = delete;

 private:
  int before_ = 0;
};

bool in_fork();  // in a process forked from one that used the device: nothing works there

// Throws Error unless the call that `what` names, as "to copy to the device", went well.
void check(cudaError_t result, const char* what);

// The same where the device reports what went wrong in work given to it before. Any call may report
// an error that is asynchronous; after one the device takes no more work of this process.
bool asynchronous(cudaError_t result);
void check_finished(cudaError_t result);

// `names` of kernels are in the device's queue, until a wait has found all well.
void note_queued(const std::shared_ptr<const std::string>& names);

cudaStream_t main_stream();
void wait(cudaStream_t stream);  // until all work in it is done

// What the main stream is given from now on comes after what `stream` has been given.
void wait_for(cudaStream_t stream);

// While it lives, work may be put into `stream`, in order with the main stream.
class InOrder {
 public:
  explicit InOrder(cudaStream_t stream);
  ~InOrder();

 private:
  cudaStream_t stream_;
};

// Who may use memory when it is given back: we, in the order of streams; others, in streams that
// they gave us; anybody, in any stream.
enum class Users { we, in_streams, anybody };

// Memory of the device from the pool, aligned to 256 bytes, not initialised.
class Memory {
 public:
  Memory() = default;
  // `planned`: what the program that wants it needs in all, for the message. Throws OutOfMemory.
  explicit Memory(int64_t bytes, int64_t planned = 0);
  Memory(Memory&& other) noexcept;
  Memory& operator=(Memory&& other) noexcept;
  ~Memory();

  char* data() const { return data_; }
  int64_t bytes() const { return bytes_; }
  void share(Users users) { users_ = users > users_ ? users : users_; }

 private:
  char* data_ = nullptr;
  int64_t bytes_ = 0;
  Users users_ = Users::we;
};

void trim();  // gives the pool's free memory back to the device

// Queued in the stream; `from` may change as soon as the call is back.
void copy_to_device(char* to, const void* from, int64_t bytes, cudaStream_t stream);
// The same beside what the main stream is at, which must not use `to`; it waits for the copy then.
void copy_beside(char* to, const void* from, int64_t bytes);
// Waits for what the stream was given before, and for the copy.
void copy_to_host(void* to, const char* from, int64_t bytes, cudaStream_t stream);

}  // namespace dl::cuda
