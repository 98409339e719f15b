// Programs on the GPU, with kernels made for the test and the runtime emulated: steps recorded and
// replayed, operands that move, deadlines, streams, what fails.        csrc/tests/run.sh
// cuda_program
#include <cstdlib>
#include <string>
#include <vector>

#include "tests/cuda/arrays.h"

// out[i] = in[i] * 3 + shift, of any strides.
struct Affine {
  Tensor out, in;
  uint32_t shift;
};

static int launches = 0;
static cudaError_t refusal = cudaSuccess;   // what launching says
static cudaError_t accident = cudaSuccess;  // what happens on the device

__global__ void affine(Affine a) {
  if (accident != cudaSuccess) dl_emulation::fail(accident);
  for (int64_t i = threadIdx.x; i < a.out.shape[0]; i += blockDim.x)
    a.out.as<uint32_t>()[i * a.out.stride[0]] =
        a.in.as<uint32_t>()[i * a.in.stride[0]] * 3 + a.shift;
}

static const char* plan_affine(const Call& call, Work& work) {
  if (call.n_tensors != 2 || call.n_ints != 1) return "affine: expected out, in and an integer";
  work.shared_bytes = 100;
  return nullptr;
}

static cudaError_t launch_affine(const Call& call, cudaStream_t stream) {
  ++launches;
  CHECK(reinterpret_cast<uintptr_t>(call.shared) % 256 == 0 && call.shared);
  if (refusal != cudaSuccess) return refusal;
  const Affine a{call.tensors[0], call.tensors[1], static_cast<uint32_t>(call.ints[0])};
  return cuda::launch(affine, dim3(1), dim3(64), 0, stream, a);
}

static const char* plan_still(const Call&, Work& work) {
  work.outputs = 0;
  return nullptr;
}
static cudaError_t launch_still(const Call&, cudaStream_t) { return cudaSuccess; }

static const cuda::CudaKernel kAffine{{"affine", plan_affine, nullptr}, launch_affine},
    kStill{{"still", plan_still, nullptr}, launch_still};

static Tensor vector(int64_t n, int64_t stride = 1) {
  Tensor t = {};
  t.dtype = DType::i32;
  t.rank = 1;
  t.shape[0] = n;
  t.stride[0] = stride;
  return t;
}

static Instruction call(Operand out, Operand in, int64_t shift) {
  return {&kAffine, {out, in}, {shift}, {}};
}

constexpr int64_t kN = 100;
constexpr int64_t kSteps = 40;

// Slot 0: memory of the program's. Slot 1: a row of input per step. Slot 2: a row of output per
// step. Slot 3: a running value.  state = 3 state + 1, output = 3 (3 input + 2) + 7
static std::vector<Instruction> rows() {
  const Operand input{1, 0, kN * 4, vector(kN)}, output{2, 0, kN * 4, vector(kN)};
  const Operand inner{0, 0, 0, vector(kN)}, state{3, 0, 0, vector(1)};
  return {call(inner, input, 2), call(output, inner, 7), call(state, state, 1)};
}

static void test_steps() {
  const Array input(count(kN * kSteps));
  for (const int64_t chunk : {kSteps, int64_t{1}, int64_t{8}}) {
    CudaProgram program(4, rows(), {{0, kN * 4}});
    const Array output(std::vector<int32_t>(kN * kSteps)), state(std::vector<int32_t>(1)),
        other(std::vector<int32_t>(1));
    input.bind(program, 1);
    output.bind(program, 2);
    launches = 0;
    for (int64_t step = 0; step < kSteps; step += chunk) {
      (step % 16 == 0 ? state : other).bind(program, 3);  // another address: recorded anew
      CHECK(program.run(step, chunk, -1, cuda::main_stream()) == chunk);
    }
    CHECK(chunk == 1 || launches <= 3 * (1 + kSteps / chunk));
    const std::vector<int32_t> y = output.get();
    for (int64_t i = 0; i < kN * kSteps; ++i) CHECK(y[i] == 9 * static_cast<int32_t>(i) + 13);
    uint32_t value[2] = {};
    for (int64_t step = 0; step < kSteps; ++step) {
      uint32_t& v = value[step / chunk * chunk % 16 != 0];
      v = 3 * v + 1;
    }
    CHECK(static_cast<uint32_t>(state.get()[0]) == value[0]);
    CHECK(static_cast<uint32_t>(other.get()[0]) == value[1]);
  }
}

// The second call with the same addresses is recorded, the third launches nothing itself.
static void test_replay() {
  CudaProgram program(2, {call({1, 0, 0, vector(kN)}, {0, 0, 0, vector(kN)}, 5)}, {});
  const Array x(count(kN)), y(count(kN)), z(count(kN));
  x.bind(program, 0);
  y.bind(program, 1);
  launches = 0;
  for (int i = 0; i < 5; ++i) program.start(cuda::main_stream());
  CHECK(launches == 2);
  z.bind(program, 1);
  program.start(cuda::main_stream());
  CHECK(launches == 3 && z.get()[9] == 32 && y.get() == z.get());
  setenv("DLCORE_CUDA_SYNC", "1", 1);
  for (int i = 0; i < 5; ++i) program.start(cuda::main_stream());
  unsetenv("DLCORE_CUDA_SYNC");
  CHECK(launches == 8);
}

// Gaps stay as they were; windows overlap from step to step; steps go backwards; odd addresses.
static void test_moving_operands() {
  const Array x(count(200, 1000)), y(count(200));
  const auto run = [&](Operand out, Operand in, int64_t from_y, int64_t from_x, int64_t steps) {
    CudaProgram program(2, {call(out, in, 0)}, {});
    y.bind(program, 1, from_y);
    x.bind(program, 0, from_x);
    CHECK(program.run(0, steps, -1, cuda::main_stream()) == steps);
    return y.get();
  };
  std::vector<int32_t> expected = count(200);
  for (int i = 0; i < 5 * 3; ++i) expected[2 * i] = (1000 + i) * 3;
  CHECK(run({1, 0, 40, vector(5, 2)}, {0, 0, 20, vector(5)}, 0, 0, 3) == expected);
  for (int s = 0; s < 9; ++s) {
    for (int i = 0; i < 4; ++i) expected[101 + s + i] = (1050 - 2 * s - i) * 3;
  }
  CHECK(run({1, 4, 4, vector(4)}, {0, 0, -8, vector(4, -1)}, 100, 50, 9) == expected);
  const Operand missing{0, 0, 4, vector(0)};
  CHECK(run({1, 0, 4, vector(0)}, missing, 0, 0, 3) == expected);
}

// Two operands of a step that overlap see each other: y = 3 x, then y[1:] = 3 y[:-1] + 1.
static void test_operands_that_overlap() {
  const Array x(count(8)), y(std::vector<int32_t>(8));
  CudaProgram program(3,
                      {call({1, 0, 16, vector(4)}, {0, 0, 16, vector(4)}, 0),
                       call({2, 0, 0, vector(3)}, {1, 0, 16, vector(3)}, 1),
                       call({1, 4, 16, vector(3)}, {2, 0, 0, vector(3)}, 0)},
                      {{2, 12}});
  x.bind(program, 0);
  y.bind(program, 1);
  program.run(0, 2, -1, cuda::main_stream());
  CHECK((y.get() == std::vector<int32_t>{0, 3, 30, 57, 12, 111, 138, 165}));
}

static void test_many_moving_operands() {
  constexpr int kMany = 150;  // more than one launch copies
  std::vector<Instruction> list;
  for (int i = 0; i < kMany; ++i)
    list.push_back(call({1, 8 * i, kMany * 8, vector(1)}, {0, 8 * i, kMany * 8, vector(1)}, i));
  CudaProgram program(2, list, {});
  const Array x(count(2 * kMany * 3)), y(std::vector<int32_t>(2 * kMany * 3));
  x.bind(program, 0);
  y.bind(program, 1);
  program.run(0, 3, -1, cuda::main_stream());
  const std::vector<int32_t> got = y.get();
  for (int i = 0; i < 2 * kMany * 3; ++i) CHECK(got[i] == (i % 2 ? 0 : 3 * i + i / 2 % kMany));
}

// More than one block copies.
static void test_large_moving_operands() {
  constexpr int64_t kLarge = 50001;
  const Array x(count(4 * kLarge)), y(std::vector<int32_t>(4 * kLarge));
  CudaProgram both(
      2, {call({1, 0, 4 * kLarge, vector(kLarge)}, {0, 0, 4 * kLarge, vector(kLarge)}, 1)}, {});
  x.bind(both, 0);
  y.bind(both, 1);
  both.run(1, 3, -1, cuda::main_stream());
  const std::vector<int32_t> got = y.get();
  for (int64_t i = 0; i < 4 * kLarge; ++i) CHECK(got[i] == (i < kLarge ? 0 : 3 * i + 1));
  CudaProgram in(
      2, {call({1, 0, 0, vector(1)}, {0, 4 * (kLarge - 1), 4 * kLarge, vector(kLarge, -1)}, 0)},
      {{1, 4}});
  x.bind(in, 0);
  in.run(0, 4, -1, cuda::main_stream());
  int32_t value = 0;
  cuda::copy_to_host(&value, in.at(1, 0, 4), 4, cuda::main_stream());
  CHECK(value == 3 * (4 * kLarge - 1));
}

static void test_deadline() {
  CudaProgram program(2, {call({1, 0, 0, vector(kN)}, {0, 0, 0, vector(kN)}, 5)}, {});
  const Array x(count(kN)), y(count(kN));
  x.bind(program, 0);
  y.bind(program, 1);
  CHECK(program.run(5, 1000000, 0, cuda::main_stream()) == 1);
  const int64_t done = program.run(0, 1000000000, 20, cuda::main_stream());
  CHECK(done > 1 && done < 1000000000);
  CHECK(program.run(0, 3, 1e6, cuda::main_stream()) == 3);
  CHECK(program.run(0, 0, -1, cuda::main_stream()) == 0);
}

static void test_streams() {
  cudaStream_t other;
  CHECK(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking) == cudaSuccess);
  CudaProgram program(2, {call({1, 0, 0, vector(kN)}, {0, 0, 0, vector(kN)}, 0)}, {});
  const Array x(count(kN)), y(count(kN));
  for (const cudaStream_t stream : {other, cuda::main_stream(), cudaStream_t{}}) {
    x.bind(program, 0);
    y.bind(program, 1);
    program.start(stream);
    program.run(0, 3, -1, stream);
    CHECK(y.get()[9] == 27);
  }
  cudaStreamDestroy(other);
}

static void test_bad_programs() {
  const Operand still{0, 0, 0, vector(10)}, moving{0, 0, 40, vector(10)},
      faster{0, 0, 80, vector(10)};
  const Operand other{1, 0, 0, vector(10)};
  const auto make = [](Operand out, Operand in) { CudaProgram(2, {call(out, in, 0)}, {{1, 40}}); };
  make(other, moving);
  make(moving, other);
  refused([&] { make(moving, still); }, {"in a slot of their own, got slot 0"});
  refused([&] { make(moving, faster); }, {"in a slot of their own, got slot 0"});
  refused([&] { make(faster, moving); }, {"in a slot of their own, got slot 0"});
  refused([] { CudaProgram(1, {{&kAffine, {}, {}, {}}}, {}); }, {"affine: expected out"});
  CudaProgram program(2, {call(other, moving, 0)}, {{1, 40}});
  const Array x(count(20));
  refused([&] { program.start(cuda::main_stream()); }, {"bound to slot 0"});
  x.bind(program, 0);
  CHECK(program.run(0, 2, -1, cuda::main_stream()) == 2);
  refused([&] { program.run(0, 3, -1, cuda::main_stream()); }, {"slot 0 to hold"});
  refused([&] { program.run(-1, 1, -1, cuda::main_stream()); }, {"first >= 0"});
}

// The error names the kernel, and a program that has failed can be run again.
static void test_kernels_that_fail() {
  const Array x(count(9 * 4));
  const std::vector<Instruction> list = {{&kStill, {}, {}, {}},
                                         call({1, 0, 0, vector(9)}, {0, 0, 36, vector(9)}, 0)};
  for (const int64_t steps : {1, 3}) {
    CudaProgram program(3, list, {{1, 36}});
    x.bind(program, 0);
    refusal = cudaErrorInvalidValue;
    refused([&] { program.run(0, steps, -1, cuda::main_stream()); },
            {"affine: expected", "invalid argument"});
    refusal = cudaSuccess;
    CHECK(program.run(1, steps, -1, cuda::main_stream()) == steps);
    int32_t value = 0;
    cuda::copy_to_host(&value, program.at(1, 0, 4), 4, cuda::main_stream());
    CHECK(value == 27 * steps);
  }
  refusal = cudaErrorLaunchOutOfResources;  // of the launch, though its number is high
  CudaProgram program(3, list, {{1, 36}});
  x.bind(program, 0);
  refused([&] { program.start(cuda::main_stream()); }, {"affine: expected", "too many resources"});
  refusal = cudaSuccess;
  const auto run = [&](int64_t first, int64_t steps) {
    return program.run(first, steps, -1, cuda::main_stream());
  };
  accident = cudaErrorIllegalAddress;
  refused([&] { run(0, 2); }, {"affine or still: expected", "illegal", "DLCORE_CUDA_SYNC"});
  dl_emulation::fail(cudaSuccess);
  setenv("DLCORE_CUDA_SYNC", "1", 1);
  refused([&] { run(0, 2); }, {"affine: expected", "illegal"});
  unsetenv("DLCORE_CUDA_SYNC");
  dl_emulation::fail(cudaSuccess);
  program.start(cuda::main_stream());
  refused([&] { x.get(); }, {"affine or still: expected", "illegal"});
  dl_emulation::fail(cudaSuccess);
  accident = cudaSuccess;
  CHECK(run(0, 2) == 2);
}

// Another thread, or library, may have chosen another device.
static void test_current_device() {
  setenv("DLCORE_EMULATION_DEVICES", "2", 1);
  CHECK(cudaSetDevice(1) == cudaSuccess);
  const Array x(count(9 * 4));
  CudaProgram program(3, {call({1, 0, 0, vector(9)}, {0, 0, 36, vector(9)}, 0)}, {{1, 36}});
  x.bind(program, 0);
  CHECK(program.run(0, 3, -1, cuda::main_stream()) == 3);
  program.start(cuda::main_stream());
  cuda::trim();
  int device = 0;
  CHECK(cudaGetDevice(&device) == cudaSuccess && device == 1);
  CHECK(cudaSetDevice(0) == cudaSuccess);
  unsetenv("DLCORE_EMULATION_DEVICES");
}

int main() {
  test_steps();
  test_replay();
  test_moving_operands();
  test_operands_that_overlap();
  test_many_moving_operands();
  test_large_moving_operands();
  test_deadline();
  test_streams();
  test_bad_programs();
  test_kernels_that_fail();
  test_current_device();
  std::puts("cuda_program: ok");
}
