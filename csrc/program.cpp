#include "program.h"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <string_view>

namespace dl {

namespace {

constexpr int kMaxSlots = 1 << 16;
constexpr int64_t kOffsetBits = (int64_t{1} << 44) - 1;

// What phases are cut into must not overflow when it is shared out among threads.
constexpr int64_t kMaxParts = INT64_MAX / 1024;

[[noreturn]] void refuse(const std::string& sentence) { throw std::invalid_argument(sentence); }

std::string text(Range r) {
  return "[" + std::to_string(r.low) + ", " + std::to_string(r.high) + ")";
}

[[noreturn]] void refuse_range(int slot, Range need, Range have) {
  refuse("program: expected slot " + std::to_string(slot) + " to hold bytes " + text(need) +
         ", got bytes " + text(have));
}

}  // namespace

Program::Program(int n_slots, std::vector<Instruction> instructions,
                 const std::map<int, int64_t>& slot_bytes)
    : instructions_(std::move(instructions)) {
  if (n_slots < 0 || n_slots > kMaxSlots) {
    refuse("program: expected n_slots from 0 to " + std::to_string(kMaxSlots) + ", got " +
           std::to_string(n_slots));
  }
  slots_.resize(n_slots);
  for (const auto& [slot, bytes] : slot_bytes) {
    Slot& s = slots_[check_slot(slot)];
    if (bytes < 0) refuse("program: expected slot_bytes >= 0, got " + std::to_string(bytes));
    s.range = {0, bytes};
    s.writable = s.owned = true;
  }
  for (Instruction& instruction : instructions_) {
    plan(instruction);
    int index = 0;
    for (const Operand& operand : instruction.operands) {
      add_operand(instruction, operand, index++ < instruction.work.outputs);
    }
  }
  for (int slot = 0; slot < n_slots; ++slot) {
    const Slot& s = slots_[slot];
    if (s.owned && !inside(s.need, s.range)) refuse_range(slot, s.need, s.range);
  }
}

// Addresses in memory that the program owns are known for good.
void Program::settle() {
  std::erase_if(bound_, [&](const Address& a) {
    const Slot& s = slots_[a.slot];
    if (s.owned) tensors_[a.tensor].data = s.base + a.offset;
    return s.owned;
  });
}

int Program::check_slot(int slot) const {
  if (slot < 0 || slot >= n_slots()) {
    refuse("program: expected a slot from 0 to " + std::to_string(n_slots() - 1) + ", got " +
           std::to_string(slot));
  }
  return slot;
}

void Program::plan(Instruction& instruction) {
  const std::string name = instruction.kernel->name;
  std::vector<Tensor> tensors;
  for (const Operand& operand : instruction.operands) {
    if (operand.tensor.rank < 0 || operand.tensor.rank > kMaxRank) {
      refuse(name + ": expected at most " + std::to_string(kMaxRank) + " axes, got " +
             std::to_string(operand.tensor.rank));
    }
    tensors.push_back(operand.tensor);
    // Not an address, but equal where addresses will be: kernels ask whether operands are the same.
    tensors.back().data = reinterpret_cast<char*>((int64_t{check_slot(operand.slot)} + 1) << 44 |
                                                  (operand.offset & kOffsetBits));
    extent_of(tensors.back());
  }
  Call call{tensors.data(),
            static_cast<int>(tensors.size()),
            instruction.ints.data(),
            static_cast<int>(instruction.ints.size()),
            instruction.floats.data(),
            static_cast<int>(instruction.floats.size()),
            nullptr};
  Work& work = instruction.work = Work{};
  if (const char* sentence = instruction.kernel->plan(call, work)) {
    const bool named = std::string_view(sentence).starts_with(name + ":");
    throw Refusal(named ? sentence : name + ": " + sentence);
  }
  if (work.prepared_bytes > 0) {
    instruction.prepared.resize(work.prepared_bytes);
    call.prepared = instruction.prepared.data();
    instruction.kernel->plan(call, work);
  }
  bool valid = work.phases >= 1 && work.phases <= kMaxPhases && work.scratch_bytes >= 0 &&
               work.shared_bytes >= 0;
  for (int phase = 0; valid && phase < work.phases; ++phase) {
    valid = work.parts[phase] >= 0 && work.parts[phase] <= kMaxParts;
  }
  if (!valid) refuse(name + ": expected a plan within 63 bits, got an overflow");
  scratch_bytes_ = std::max(scratch_bytes_, work.scratch_bytes);
  shared_bytes_ = std::max(shared_bytes_, work.shared_bytes);
}

void Program::add_operand(const Instruction& instruction, const Operand& operand, bool output) {
  Slot& slot = slots_[check_slot(operand.slot)];
  const int64_t size = size_of(operand.tensor.dtype);
  if (operand.offset % size != 0 || operand.step_bytes % size != 0) {
    refuse(std::string(instruction.kernel->name) + ": expected offsets in whole elements of " +
           std::to_string(size) + " bytes, got offset " + std::to_string(operand.offset) +
           " and step " + std::to_string(operand.step_bytes));
  }
  const int index = static_cast<int>(tensors_.size());
  const Range extent = extent_of(operand.tensor);
  tensors_.push_back(operand.tensor);
  tensors_.back().data = nullptr;
  slot.alignment = std::max(slot.alignment, size);
  slot.dtype = static_cast<int>(operand.tensor.dtype);
  if (is_empty(extent)) return;  // never touched: needs no memory, and any pointer will do
  slot.used = true;
  slot.written |= output;
  if (operand.step_bytes != 0) {
    moving_.push_back({index, operand.slot, operand.offset, operand.step_bytes, extent, output});
    return;
  }
  slot.need = hull(slot.need, shifted(extent, operand.offset));
  bound_.push_back({index, operand.slot, operand.offset, 0, extent, output});
}

void Program::bind(int index, char* data, Range range, bool writable) {
  Slot& slot = slots_[check_slot(index)];
  const std::string name = "slot " + std::to_string(index);
  if (slot.owned)
    refuse("program: expected a slot of the caller, got " + name + ", which the program owns");
  if (data) {
    if (reinterpret_cast<uintptr_t>(data) % slot.alignment != 0) {
      refuse("program: expected " + name + " aligned to " + std::to_string(slot.alignment) +
             " bytes, got a misaligned array");
    }
    if (slot.written && !writable)
      refuse("program: expected a writable array for " + name + ", got a read-only one");
    if (!inside(slot.need, range)) refuse_range(index, slot.need, range);
  }
  slot.base = data;
  slot.range = range;
  slot.writable = writable;
  ++bindings_;
}

char* Program::at(int index, int64_t offset, int64_t bytes) const {
  const Slot& slot = slots_[check_slot(index)];
  if (!slot.base)
    refuse("program: expected memory in slot " + std::to_string(index) + ", got an unbound slot");
  const Range need{offset, checked_add(offset, bytes)};
  if (bytes < 0 || need.low < slot.range.low || need.high > slot.range.high)
    refuse_range(index, need, slot.range);
  return slot.base + offset;
}

// Addresses are linear in the step: the first and the last step bound them all.
void Program::check_steps(int64_t first, int64_t steps) const {
  if (first < 0 || steps < 0) {
    refuse("program: expected first >= 0 and steps >= 0, got " + std::to_string(first) + " and " +
           std::to_string(steps));
  }
  if (steps == 0) return;
  for (size_t i = 0; i < slots_.size(); ++i) {
    if (slots_[i].used && !slots_[i].base) {
      refuse("program: expected an array bound to slot " + std::to_string(i) +
             ", got none; call bind first");
    }
  }
  const int64_t last = checked_add(first, steps - 1);
  for (const Address& a : moving_) {
    for (const int64_t step : {first, last}) {
      const Range need =
          shifted(a.extent, checked_add(a.offset, checked_multiply(step, a.step_bytes)));
      if (!inside(need, slots_[a.slot].range)) refuse_range(a.slot, need, slots_[a.slot].range);
    }
  }
}

std::vector<Call> Program::calls(const Tensor* tensors, char* shared) const {
  std::vector<Call> list;
  for (const Instruction& i : instructions_) {
    const int n = static_cast<int>(i.operands.size());
    list.push_back({tensors, n, i.ints.data(), static_cast<int>(i.ints.size()), i.floats.data(),
                    static_cast<int>(i.floats.size()), shared,
                    i.prepared.empty() ? nullptr : const_cast<char*>(i.prepared.data())});
    tensors += n;
  }
  return list;
}

}  // namespace dl
