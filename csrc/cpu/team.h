// Our own thread team: fixed shares, barriers of one cache-line transfer per round, sleep when
// idle.
//
// Not OpenMP, because a team must survive fork, give the same bits for any size, live beside other
// runtimes and obey one setting. Workers are created when first needed and stay; idle ones spin for
// kSpin, then sleep in the kernel. A worker that wakes on its caller's CPU moves to another. At
// exit they are left asleep: the team is never destroyed, so there is nothing that can hang.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>

namespace dl {

constexpr int kMaxThreads = 256;
constexpr int kLine = 128;  // x86 fetches cache lines in pairs

// CPUs this process may use: its affinity mask, limited by the quota of its control groups.
int available_cpus();

// CPUs granted by control-group quotas (versions 1 and 2), rounded up; 0 if there is no limit.
// `membership` is the text of /proc/self/cgroup, `mount` is where control groups are mounted.
int quota_cpus(const std::string& membership, const std::string& mount);

// The number of threads that programs may use: set_num_threads, else DLCORE_NUM_THREADS, else
// available_cpus().
int num_threads();
void set_num_threads(int n);  // throws std::invalid_argument outside 1..kMaxThreads

// Moves the calling thread to another CPU of those it may use; false if there is none. Its affinity
// mask stays as it was.
bool leave_cpu(int cpu);

class Team {
 public:
  using Job = void (*)(void* context, Team& team, int rank, int size);

  // The team of this process; a child after fork has a new one with no workers yet.
  static Team& current();

  // Takes the team for the calling thread and creates missing workers. Returns how many threads it
  // has (the caller included, at most `threads`), or 0 if another thread holds the team.
  int acquire(int threads);
  void release();

  // Has every worker of a team of `threads` come, and not fallen asleep since? wake() makes that
  // so, without waiting for it.
  bool awake(int threads) const;
  void wake(int threads);

  // Calls job(context, *this, rank, size) for each rank below `size`, the caller being rank 0, and
  // waits for all. Only between acquire and release; `size` at most what acquire returned.
  void run(int size, Job job, void* context);

  // The same for jobs without barriers: the caller itself does the share of a worker that has not
  // come by the time the caller is done, as happens when the worker sleeps or other processes have
  // its CPU.
  void run_shares(int size, Job job, void* context);

  // A run that takes less than a scheduler's slice is better done alone while another process has a
  // worker's CPU. learn() is called after each such run; late() tells whether a worker came late to
  // one not long ago.
  bool late() const;
  void learn();

  // All threads of the running job meet. A dissemination barrier (Hensgen, Finkel, Manber 1988).
  void barrier(int rank);

 private:
  static constexpr int kRounds = 8;  // 2^8 = kMaxThreads

  enum Presence { kAwake, kAsleep, kCalled };  // kCalled: awake as soon as it gets a CPU

  struct alignas(kLine) Mailbox {
    std::atomic<uint64_t> meeting[kRounds] =
        {};  // number of the last barrier in which the partner has arrived
    // Each job given to this thread adds 2; odd while the job is a share that worker and caller
    // compete for.
    std::atomic<uint64_t> ticket{0};
    std::atomic<uint64_t> taken{0};  // the ticket of the last share that was taken
    std::atomic<int> presence{kCalled};
    bool take(uint64_t number);
    alignas(kLine) uint64_t barriers = 0;  // this thread's own count
  };

  void worker(int rank);
  void come(Mailbox& box);
  void start(int size, Job job, void* context, bool shares);
  void finish();
  bool create_worker(int rank);
  template <class Done>
  void wait_for(Done done, int rank);

  Mailbox mailboxes_[kMaxThreads];
  alignas(kLine) std::atomic<int> working_{0};  // workers that have not finished the job
  alignas(kLine) std::atomic_flag taken_ = ATOMIC_FLAG_INIT;
  std::atomic<int> created_{1};  // threads that exist, the caller included
  Job job_ = nullptr;
  void* context_ = nullptr;
  int size_ = 1;
  uint64_t first_barrier_ = 0;  // what every thread's count starts from in this job
  bool crowded_ = false;        // more threads than CPUs: waiting must give the CPU away at once
  std::atomic<int> caller_cpu_{-1};     // where the last call for workers came from
  bool came_late_ = false;              // a worker did, to the last run
  std::chrono::milliseconds alone_{0};  // how long the caller stays alone after that
  std::chrono::steady_clock::time_point alone_until_;
};

}  // namespace dl
