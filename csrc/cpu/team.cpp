#include "cpu/team.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <mutex>
#include <sstream>
#include <stdexcept>
#include <system_error>
#include <thread>

namespace dl {

namespace {

// Longer than the gap between two steps and than it takes to wake a sleeping thread, shorter than
// what a scheduler notices. A worker that comes when the caller has done its share would else fall
// asleep again just before the next call, and come too late each time.
constexpr auto kSpin = std::chrono::microseconds(200);

// A wait as long as this means that the other thread has no CPU: another process has it, for the
// rest of its slice of some milliseconds. The team is then left alone for a while, twice as long
// each time in a row: the neighbour may have much to do, and a try costs a slice.
constexpr auto kLate = std::chrono::milliseconds(1);
constexpr std::chrono::milliseconds kNotAlone(0), kAlone(10), kLongestAlone(160);

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("isb");
#endif
}

// True as soon as done() holds, false when `budget` is over.
template <class Done>
bool spin(Done done, std::chrono::nanoseconds budget) {
  const auto try_often = [&] {
    for (int i = 0; i < 64; ++i) {
      if (done()) return true;
      pause();
    }
    return false;
  };
  if (try_often()) return true;  // most waits end here, without reading the clock
  const auto end = std::chrono::steady_clock::now() + budget;
  while (std::chrono::steady_clock::now() < end) {
    if (try_often()) return true;
  }
  return false;
}

// quota / period of one control group, rounded up; 0 if it sets no limit.
int read_quota(const std::string& folder, bool version2) {
  double quota = -1, period = 0;
  if (version2) {
    std::ifstream(folder + "/cpu.max") >> quota >> period;  // "max 100000" leaves quota at 0
  } else {
    std::ifstream(folder + "/cpu.cfs_quota_us") >> quota;
    std::ifstream(folder + "/cpu.cfs_period_us") >> period;
  }
  if (!(quota > 0 && period > 0)) return 0;
  return static_cast<int>(std::min((quota + period - 1) / period, double{kMaxThreads}));
}

int default_threads() {
  if (const char* text = std::getenv("DLCORE_NUM_THREADS"); text && *text) {
    char* end;
    const long n = std::strtol(text, &end, 10);
    if (*end == 0 && n >= 1 && n <= kMaxThreads) return static_cast<int>(n);
    throw std::invalid_argument("DLCORE_NUM_THREADS: expected an integer from 1 to " +
                                std::to_string(kMaxThreads) + ", got '" + text + "'");
  }
  return std::min(available_cpus(), kMaxThreads);
}

std::atomic<int> thread_limit{0};  // 0: not known yet

std::atomic<Team*> current_team{nullptr};

constexpr bool is_share(uint64_t ticket) { return ticket % 2; }
constexpr uint64_t next_ticket(uint64_t last, bool share) { return (last | 1) + 1 + share; }

int process_cpus = 1;  // written once, before the first team exists

}  // namespace

int quota_cpus(const std::string& membership, const std::string& mount) {
  int limit = 0;
  std::istringstream lines(membership);
  for (std::string line; std::getline(lines, line);) {  // id:controllers:path
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    std::istringstream controllers(line.substr(first + 1, second - first - 1));
    const bool version2 = second == first + 1;
    bool cpu = version2;
    for (std::string name; std::getline(controllers, name, ',');) cpu |= name == "cpu";
    if (!cpu) continue;
    // A group is bound by all groups above it. Inside a container the path may be the host's: then
    // only "" exists.
    std::string path = line.substr(second + 1);
    for (;;) {
      while (!path.empty() && path.back() == '/') path.pop_back();
      const int quota = read_quota(mount + (version2 ? "" : "/cpu") + path, version2);
      if (quota > 0) limit = limit ? std::min(limit, quota) : quota;
      if (path.empty()) break;
      path.resize(path.rfind('/') == std::string::npos ? 0 : path.rfind('/'));
    }
  }
  return limit;
}

int available_cpus() {
  int cpus = static_cast<int>(std::thread::hardware_concurrency());
  cpu_set_t mask;
  if (sched_getaffinity(0, sizeof mask, &mask) == 0) cpus = CPU_COUNT(&mask);
  std::stringstream membership;
  if (std::ifstream file("/proc/self/cgroup"); file) membership << file.rdbuf();
  const int quota = quota_cpus(membership.str(), "/sys/fs/cgroup");
  return std::max(1, quota ? std::min(cpus, quota) : cpus);
}

int num_threads() {
  int n = thread_limit.load(std::memory_order_relaxed);
  if (n == 0) {
    n = default_threads();
    thread_limit.store(n, std::memory_order_relaxed);
  }
  return n;
}

void set_num_threads(int n) {
  if (n < 1 || n > kMaxThreads) {
    throw std::invalid_argument("set_num_threads: expected an integer from 1 to " +
                                std::to_string(kMaxThreads) + ", got " + std::to_string(n));
  }
  thread_limit.store(n, std::memory_order_relaxed);
}

bool leave_cpu(int cpu) {
  cpu_set_t mask;
  if (sched_getaffinity(0, sizeof mask, &mask) != 0) return false;
  cpu_set_t others = mask;
  CPU_CLR(cpu, &others);
  if (CPU_COUNT(&others) == 0 || sched_setaffinity(0, sizeof others, &others) != 0) return false;
  sched_setaffinity(0, sizeof mask, &mask);
  return true;
}

Team& Team::current() {
  Team* team = current_team.load(std::memory_order_acquire);
  if (team) return *team;
  static std::once_flag once;
  std::call_once(once, [] {
    process_cpus = available_cpus();
    // The child has none of the threads, and the old team may be in the middle of a job of another
    // thread: it is left alone for ever. Allocating here is allowed, glibc and musl keep malloc
    // usable in the child.
    pthread_atfork(nullptr, nullptr,
                   [] { current_team.store(new Team, std::memory_order_release); });
    current_team.store(new Team, std::memory_order_release);
  });
  return *current_team.load(std::memory_order_acquire);
}

bool Team::create_worker(int rank) {
  // Signals belong to the threads that Python knows.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  bool created = true;
  try {
    std::thread([this, rank] { worker(rank); }).detach();
  } catch (const std::system_error&) {
    created = false;
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return created;
}

int Team::acquire(int threads) {
  if (taken_.test_and_set(std::memory_order_acquire)) return 0;
  int created = created_.load(std::memory_order_relaxed);
  while (created < threads && create_worker(created)) ++created;
  created_.store(created, std::memory_order_relaxed);
  return std::min(threads, created);
}

void Team::release() { taken_.clear(std::memory_order_release); }

bool Team::awake(int threads) const {
  if (created_.load(std::memory_order_relaxed) < threads) return false;
  for (int rank = 1; rank < threads; ++rank) {
    if (mailboxes_[rank].presence.load(std::memory_order_relaxed) != kAwake) return false;
  }
  return true;
}

void Team::wake(int threads) {
  for (int rank = 1; rank < threads; ++rank) {
    std::atomic<int>& presence = mailboxes_[rank].presence;
    int asleep = kAsleep;
    if (presence.load() != kAsleep) continue;
    caller_cpu_.store(sched_getcpu(), std::memory_order_relaxed);
    if (presence.compare_exchange_strong(asleep, kCalled)) presence.notify_one();
  }
}

bool Team::late() const {
  return alone_ > kNotAlone && std::chrono::steady_clock::now() < alone_until_;
}

void Team::learn() {
  alone_ = came_late_ ? std::clamp(2 * alone_, kAlone, kLongestAlone) : kNotAlone;
  if (came_late_) alone_until_ = std::chrono::steady_clock::now() + alone_;
}

template <class Done>
void Team::wait_for(Done done, int rank) {
  if (spin(done, crowded_ ? std::chrono::microseconds(0) : kSpin)) return;
  const auto start = std::chrono::steady_clock::now();
  while (!done()) sched_yield();
  if (rank == 0 && !crowded_ && std::chrono::steady_clock::now() - start > kLate) came_late_ = true;
}

void Team::start(int size, Job job, void* context, bool shares) {
  job_ = job;
  context_ = context;
  size_ = size;
  first_barrier_ = mailboxes_[0].barriers;
  crowded_ = size > process_cpus;
  came_late_ = false;
  working_.store(size - 1, std::memory_order_relaxed);
  // Sequentially consistent, as the worker's two accesses: either it sees the ticket or wake() sees
  // it asleep.
  for (int rank = 1; rank < size; ++rank) {
    std::atomic<uint64_t>& ticket = mailboxes_[rank].ticket;
    ticket.store(next_ticket(ticket.load(std::memory_order_relaxed), shares));
  }
  wake(size);
}

void Team::finish() {
  wait_for([this] { return working_.load(std::memory_order_acquire) == 0; }, 0);
}

void Team::run(int size, Job job, void* context) {
  start(size, job, context, false);
  job(context, *this, 0, size);
  finish();
}

void Team::run_shares(int size, Job job, void* context) {
  start(size, job, context, true);
  job(context, *this, 0, size);
  for (int rank = 1; rank < size; ++rank) {
    if (!mailboxes_[rank].take(mailboxes_[rank].ticket.load(std::memory_order_relaxed))) continue;
    job(context, *this, rank, size);
    working_.fetch_sub(1, std::memory_order_relaxed);
  }
  finish();
}

bool Team::Mailbox::take(uint64_t number) {
  uint64_t last = taken.load(std::memory_order_relaxed);
  return last < number && taken.compare_exchange_strong(last, number, std::memory_order_acq_rel);
}

// Kernels that save power wake a thread on its caller's CPU though another idles, and leave both
// there for tens of milliseconds.
void Team::come(Mailbox& box) {
  if (const int cpu = sched_getcpu(); cpu == caller_cpu_.load(std::memory_order_relaxed)) {
    leave_cpu(cpu);
  }
  box.presence.store(kAwake);
}

void Team::worker(int rank) {
  Mailbox& box = mailboxes_[rank];
  come(box);
  for (uint64_t seen = 0;;) {
    while (!spin([&] { return box.ticket.load(std::memory_order_acquire) != seen; }, kSpin)) {
      box.presence.store(kAsleep);
      if (box.ticket.load() != seen) {
        box.presence.store(kAwake);
      } else {
        box.presence.wait(kAsleep);
        come(box);
      }
    }
    seen = box.ticket.load(std::memory_order_acquire);
    if (is_share(seen) && !box.take(seen)) continue;  // the caller was quicker
    box.barriers = first_barrier_;
    job_(context_, *this, rank, size_);
    working_.fetch_sub(1, std::memory_order_release);
  }
}

void Team::barrier(int rank) {
  Mailbox& box = mailboxes_[rank];
  const uint64_t number = ++box.barriers;
  for (int distance = 1, round = 0; distance < size_; distance *= 2, ++round) {
    mailboxes_[(rank + distance) % size_].meeting[round].store(number, std::memory_order_release);
    wait_for([&] { return box.meeting[round].load(std::memory_order_acquire) >= number; }, rank);
  }
}

}  // namespace dl
