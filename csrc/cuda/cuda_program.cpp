#include "cuda/cuda_program.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <set>

namespace dl {

namespace {

constexpr int64_t kAlignment = 256;

int64_t rounded(int64_t bytes) {
  return checked_add(bytes, kAlignment - 1) / kAlignment * kAlignment;
}

bool overlap(Range a, Range b) { return a.low < b.high && b.low < a.high; }

// No gaps between elements: what is written leaves nothing of what was there before.
bool dense(const Tensor& t, Range extent) {
  int64_t bytes = size_of(t.dtype);
  for (int d = 0; d < t.rank; ++d) bytes *= t.shape[d];
  return extent.high - extent.low == bytes;
}

bool wait_for_each_kernel() {
  const char* value = std::getenv("DLCORE_CUDA_SYNC");
  return value && *value && *value != '0';
}

double milliseconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
      .count();
}

}  // namespace

CudaProgram::CudaProgram(int n_slots, std::vector<Instruction> instructions,
                         const std::map<int, int64_t>& slot_bytes)
    : Program(n_slots, std::move(instructions), slot_bytes) {
  const cuda::OnDevice here;
  std::set<std::string> names;
  for (const Instruction& instruction : instructions_) names.insert(instruction.kernel->name);
  std::string list;
  for (const std::string& name : names) list += (list.empty() ? "" : " or ") + name;
  names_ = std::make_shared<const std::string>(list.empty() ? "program" : list);
  std::set<int> slots;
  for (const Address& a : bound_) {
    if (!slots_[a.slot].owned) slots.insert(a.slot);
  }
  fixed_slots_.assign(slots.begin(), slots.end());
  allocate(moving_groups());
  calls_ = calls(tensors_.data(), shared_bytes_ > 0 ? shared_ : nullptr);
}

CudaProgram::~CudaProgram() { drop_graph(); }

// Operands that overlap share a fixed place.
std::vector<CudaProgram::Moving> CudaProgram::moving_groups() const {
  std::vector<Moving> groups;
  for (size_t i = 0; i < moving_.size(); ++i) {
    const Address& a = moving_[i];
    Moving merged{a.slot, a.step_bytes, shifted(a.extent, a.offset), 0, false, a.output, {}};
    merged.addresses.push_back(static_cast<int>(i));
    const auto absorb = [&](const Moving& g) {
      if (g.slot != a.slot || g.step_bytes != a.step_bytes || !overlap(g.range, merged.range))
        return false;
      merged.send |= g.send;
      merged.range = hull(g.range, merged.range);
      merged.addresses.insert(merged.addresses.end(), g.addresses.begin(), g.addresses.end());
      return true;
    };
    while (std::erase_if(groups, absorb) > 0) {
    }
    groups.push_back(std::move(merged));
  }
  for (Moving& g : groups) {
    g.start = g.range.low - (g.range.low % kAlignment + kAlignment) % kAlignment;
    const Address& first = moving_[*std::min_element(g.addresses.begin(), g.addresses.end())];
    const Range range = shifted(first.extent, first.offset);
    g.bring = !(first.output && dense(tensors_[first.tensor], first.extent) &&
                range.low == g.range.low && range.high == g.range.high);
    check_alone(g, groups);
  }
  return groups;
}

// What lies at a fixed place during a step is not seen by operands that reach the same memory in
// another way.
void CudaProgram::check_alone(const Moving& g, const std::vector<Moving>& groups) const {
  bool alone = !g.send || is_empty(slots_[g.slot].need);
  for (const Moving& other : groups) {
    alone &= other.slot != g.slot || other.step_bytes == g.step_bytes || !(g.send || other.send);
  }
  if (!alone) {
    throw Refusal(
        "program: expected results that move from step to step in a slot of their own, got slot " +
        std::to_string(g.slot) + " with other operands");
  }
}

void CudaProgram::allocate(std::vector<Moving> groups) {
  // To bring only, to bring and send, to send only.
  std::stable_sort(groups.begin(), groups.end(), [](const Moving& a, const Moving& b) {
    return a.send - a.bring < b.send - b.bring;
  });
  const int64_t state_bytes = 8 * (1 + static_cast<int64_t>(groups.size()));
  int64_t kept = rounded(state_bytes), total;  // kept: zero at first
  for (const Slot& slot : slots_) {
    if (slot.owned) kept = checked_add(kept, rounded(slot.range.high));
  }
  total = checked_add(kept, rounded(shared_bytes_));
  for (const Moving& g : groups) total = checked_add(total, rounded(g.range.high - g.start));
  memory_ = cuda::Memory(total, total);
  cuda::check(cudaMemsetAsync(memory_.data(), 0, kept, cuda::main_stream()), "to clear memory");
  char* next = memory_.data();
  const auto take = [&](int64_t bytes) {
    next += rounded(bytes);
    return next - rounded(bytes);
  };
  state_ = reinterpret_cast<int64_t*>(take(state_bytes));
  known_.assign(1 + groups.size(), 0);
  own(take);
  shared_ = take(shared_bytes_);
  for (const Moving& g : groups) {
    char* fixed = take(g.range.high - g.start);
    for (const int i : g.addresses)
      tensors_[moving_[i].tensor].data = fixed + (moving_[i].offset - g.start);
    ranges_.push_back(
        {fixed + (g.range.low - g.start), g.range.low, g.step_bytes, g.range.high - g.range.low});
    range_slots_.push_back(g.slot);
    n_bring_ += g.bring;
    first_send_ += !g.send;
  }
}

int64_t CudaProgram::run(int64_t first, int64_t steps, double deadline_ms, cudaStream_t stream) {
  check_steps(first, steps);
  if (steps == 0) return 0;
  const auto start = std::chrono::steady_clock::now();
  const cuda::OnDevice here;
  const cuda::InOrder order(stream);
  const bool replay = begin(first, steps, stream);
  if (deadline_ms < 0) {
    queue_steps(steps, replay, stream);
    cuda::wait(stream);
    return steps;
  }
  int64_t done = 0;
  for (int64_t chunk = 1;;) {
    queue_steps(chunk, replay, stream);
    cuda::wait(stream);
    done += chunk;
    const double passed = milliseconds_since(start), left = deadline_ms - passed;
    if (done == steps || left <= 0) return done;
    const double fit = left / (passed / static_cast<double>(done));  // steps
    chunk = std::min(2 * chunk, steps - done);
    if (fit < static_cast<double>(chunk)) chunk = std::max<int64_t>(1, static_cast<int64_t>(fit));
  }
}

void CudaProgram::start(cudaStream_t stream) {
  check_steps(0, 1);
  const cuda::OnDevice here;
  const cuda::InOrder order(stream);
  queue_steps(1, begin(0, 1, stream), stream);
}

// Tells the device where memory lies and which step comes; says whether to replay a graph.
bool CudaProgram::begin(int64_t first, int64_t steps, cudaStream_t stream) {
  for (const Address& a : bound_) tensors_[a.tensor].data = slots_[a.slot].base + a.offset;
  std::vector<char*> bases;
  for (const int slot : fixed_slots_) bases.push_back(slots_[slot].base);
  const bool again = bases == bases_ && begun_;
  begun_ = true;
  bases_ = std::move(bases);
  if (!ranges_.empty()) {
    set_state(0, first, stream);
    for (size_t i = 0; i < ranges_.size(); ++i)
      set_state(1 + i, reinterpret_cast<int64_t>(slots_[range_slots_[i]].base), stream);
  }
  cuda::note_queued(names_);
  return !wait_for_each_kernel() && (again || steps > 1 || (graph_ && recorded_bases_ == bases_));
}

void CudaProgram::set_state(size_t index, int64_t word, cudaStream_t stream) {
  if (known_[index] == word) return;
  cuda::check(cuda::launch_store(state_ + index, word, stream), "to name the step");
  known_[index] = word;
}

// The first step of all is not recorded: the driver loads kernels when they are first launched.
void CudaProgram::queue_steps(int64_t n, bool replay, cudaStream_t stream) {
  const bool named = wait_for_each_kernel();
  const int64_t step = known_[0];
  known_[0] = -1;  // unknown, should a step fail
  for (int64_t i = 0; i < n; ++i) {
    if (!replay || !loaded_) {
      queue_step(stream, named);
      loaded_ = true;
      continue;
    }
    if (!graph_ || recorded_bases_ != bases_) record();
    const cudaError_t result = cudaGraphLaunch(graph_, stream);
    if (cuda::asynchronous(result)) cuda::check_finished(result);
    if (result != cudaSuccess) fail(*names_, result);
  }
  known_[0] = ranges_.empty() ? 0 : step + n;
}

void CudaProgram::queue_step(cudaStream_t stream, bool named) {
  const int n_send = static_cast<int>(ranges_.size()) - first_send_;
  cuda::check(cuda::launch_bring(state_, 0, ranges_.data(), n_bring_, n_send == 0, stream),
              "to bring the operands of a step");
  for (size_t i = 0; i < instructions_.size(); ++i) queue(i, stream, named);
  cuda::check(cuda::launch_send(state_, first_send_, ranges_.data() + first_send_, n_send,
                                n_send > 0, stream),
              "to take the results of a step");
}

void CudaProgram::queue(size_t i, cudaStream_t stream, bool named) {
  const auto* kernel = static_cast<const cuda::CudaKernel*>(instructions_[i].kernel);
  cudaError_t result = kernel->launch(calls_[i], stream);
  if (!named && cuda::asynchronous(result)) cuda::check_finished(result);  // of another kernel
  if (result == cudaSuccess && named) result = cudaStreamSynchronize(stream);
  if (result != cudaSuccess) fail(kernel->name, result);
}

void CudaProgram::fail(const std::string& name, cudaError_t result) const {
  cudaGetLastError();  // reported here, and not once more elsewhere
  throw cuda::Error(name + ": expected to run on the device, got " + cudaGetErrorString(result) +
                    " (" + cudaGetErrorName(result) + ")");
}

void CudaProgram::record() {
  drop_graph();
  cudaStream_t stream = nullptr;
  cudaGraph_t graph = nullptr;
  cuda::check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "to make a stream");
  const std::shared_ptr<void> owner(nullptr, [&](void*) {
    if (graph) cudaGraphDestroy(graph);
    cudaStreamDestroy(stream);
  });
  // Relaxed: the driver may have to load a kernel meanwhile.
  cuda::check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed), "to record a step");
  try {
    queue_step(stream, false);
  } catch (...) {
    cudaStreamEndCapture(stream, &graph);
    cudaGetLastError();
    throw;
  }
  cuda::check(cudaStreamEndCapture(stream, &graph), "to record a step");
  cuda::check(cudaGraphInstantiate(&graph_, graph, 0), "to make a graph of a step");
  recorded_bases_ = bases_;
}

void CudaProgram::drop_graph() {
  if (graph_ && !cuda::in_fork()) cudaGraphExecDestroy(graph_);
  graph_ = nullptr;
}

}  // namespace dl
