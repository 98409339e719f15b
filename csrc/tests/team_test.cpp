// The thread team: barriers, sizes above the CPU count, fork, sharing between callers, sleeping,
// workers without a CPU, quotas.
#include "cpu/team.h"

#include <sched.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <stdexcept>
#include <thread>
#include <vector>

#include "tests/check.h"

#if defined(__SANITIZE_THREAD__)
constexpr bool kThreadSanitizer = true;
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
constexpr bool kThreadSanitizer = true;
#else
constexpr bool kThreadSanitizer = false;
#endif
#else
constexpr bool kThreadSanitizer = false;
#endif

using dl::Team;

// Each thread adds to its neighbour's cell after every barrier: plain memory, so a barrier that
// lets one thread through too early gives a wrong sum here and a report under TSan.
struct Ring {
  std::vector<int64_t> cells;
  int rounds;
};

static void ring_job(void* context, Team& team, int rank, int size) {
  Ring& ring = *static_cast<Ring*>(context);
  for (int round = 0; round < ring.rounds; ++round) {
    ring.cells[(rank + round) % size] += 1;
    team.barrier(rank);
  }
}

static void run_ring(int threads, int rounds) {
  Team& team = Team::current();
  int size;
  while ((size = team.acquire(threads)) == 0) std::this_thread::yield();
  CHECK(size == threads);
  Ring ring{std::vector<int64_t>(size), rounds};
  team.run(size, ring_job, &ring);
  for (const int64_t cell : ring.cells) CHECK(cell == rounds);
  team.release();
}

static void test_barriers() {
  for (const int threads : {1, 2, 3, 4, 7, 8, 2, 16, 1, 5}) run_ring(threads, 200);
}

static void test_more_threads_than_cpus() {
  const auto start = std::chrono::steady_clock::now();
  run_ring(7, 1000);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  CHECK(seconds.count() < 30);  // spinning until each time slice ends would take minutes
}

// Each share is done exactly once, by its worker or by the caller.
static void test_shares() {
  Team& team = Team::current();
  std::vector<int64_t> done(16);
  for (int round = 0; round < 2000; ++round) {
    const int threads = 2 + round % 15;
    CHECK(team.acquire(threads) == threads);
    if (round % 100 == 0) std::this_thread::sleep_for(std::chrono::microseconds(60));
    team.run_shares(
        threads,
        [](void* cells, Team&, int rank, int) {
          ++(*static_cast<std::vector<int64_t>*>(cells))[rank];
        },
        &done);
    for (int rank = 0; rank < 16; ++rank) CHECK(done[rank] == (rank < threads));
    done.assign(16, 0);
    team.release();
    if (round % 10 == 0) run_ring(1 + round % 7, 3);
  }
}

static bool comes_true(bool (*condition)()) {
  for (int i = 0; i < 2000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return false;
}

static void test_sleep_and_wake() {
  run_ring(3, 1);
  CHECK(comes_true([] { return !Team::current().awake(3); }));
  run_ring(3, 10);                // the job itself wakes them
  for (int i = 0; i < 50; ++i) {  // jobs that arrive just as the workers fall asleep
    std::this_thread::sleep_for(std::chrono::microseconds(45 + i % 10));
    run_ring(3, 2);
  }
}

// With a single CPU a worker that was called cannot have come while the caller goes on.
static void test_called_is_not_awake() {
  if (kThreadSanitizer) return;  // it refuses threads after a fork
  const pid_t child = fork();
  if (child == 0) {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    bool seen = sched_setaffinity(0, sizeof one, &one) != 0;
    for (int i = 0; i < 50 && !seen; ++i) {  // the kernel may let the worker in at once
      run_ring(2, 1);
      if (!comes_true([] { return !Team::current().awake(2); })) _exit(2);
      Team::current().wake(2);
      seen = !Team::current().awake(2);
    }
    _exit(seen ? 0 : 1);
  }
  int status = -1;
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void test_leaving_a_cpu() {
  cpu_set_t before, after;
  CHECK(sched_getaffinity(0, sizeof before, &before) == 0);
  bool moved = false;
  for (int i = 0; i < 100 && !moved; ++i) {  // the kernel may bring it back
    const int cpu = sched_getcpu();
    CHECK(dl::leave_cpu(cpu) == (CPU_COUNT(&before) > 1));
    moved = sched_getcpu() != cpu;
  }
  CHECK(moved == (CPU_COUNT(&before) > 1));
  CHECK(sched_getaffinity(0, sizeof after, &after) == 0);
  CHECK(CPU_EQUAL(&before, &after));
}

static void test_late_workers() {
  if (dl::available_cpus() < 2) return;  // all are late, always
  Team& team = Team::current();
  const auto run = [&](int milliseconds) {
    CHECK(team.acquire(2) == 2);
    const Team::Job job = [](void* sleep, Team&, int rank, int) {
      if (rank == 1) std::this_thread::sleep_for(*static_cast<std::chrono::milliseconds*>(sleep));
    };
    std::chrono::milliseconds sleep(milliseconds);
    team.run(2, job, &sleep);
    team.learn();
    team.release();
  };
  bool late = false;
  for (int i = 0; i < 20 && !late; ++i) {  // unless the caller has lost its CPU since
    run(5);
    late = team.late();
  }
  CHECK(late);
  CHECK(comes_true([] { return !Team::current().late(); }));
  bool forgotten = false;
  for (int i = 0; i < 100 && !forgotten; ++i) {
    run(0);
    forgotten = !team.late();
  }
  CHECK(forgotten);
}

static void test_one_caller_at_a_time() {
  Team& team = Team::current();
  CHECK(team.acquire(2) == 2);
  std::thread([&] { CHECK(team.acquire(2) == 0); }).join();
  team.release();
  std::vector<std::thread> callers;
  for (int i = 0; i < 4; ++i)
    callers.emplace_back([] {
      for (int j = 0; j < 20; ++j) run_ring(2, 5);
    });
  for (std::thread& caller : callers) caller.join();
}

static void test_fork() {
  if (kThreadSanitizer) return;  // it refuses threads after a fork
  run_ring(4, 10);
  for (const bool busy : {false, true}) {
    if (busy)
      CHECK(Team::current().acquire(2) == 2);  // as when another thread is in the middle of a job
    const pid_t child = fork();
    if (child == 0) {
      run_ring(4, 100);
      _exit(0);
    }
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    if (busy) Team::current().release();
  }
  run_ring(4, 10);
}

static void write_file(const std::string& path, const std::string& text) {
  std::ofstream(path) << text;
}

static void test_quotas() {
  char name[] = "/tmp/dlcore_cgroup_XXXXXX";
  CHECK(mkdtemp(name));
  const std::string root = name;
  for (const char* folder : {"/a", "/a/b", "/cpu", "/cpu/pod"})
    CHECK(mkdir((root + folder).c_str(), 0700) == 0);
  CHECK(dl::quota_cpus("0::/a/b\n", root) == 0);
  write_file(root + "/a/b/cpu.max", "max 100000\n");
  CHECK(dl::quota_cpus("0::/a/b\n", root) == 0);
  write_file(root + "/a/cpu.max", "250000 100000\n");
  CHECK(dl::quota_cpus("0::/a/b\n", root) == 3);  // a limit above binds too
  write_file(root + "/a/b/cpu.max", "50000 100000\n");
  CHECK(dl::quota_cpus("0::/a/b\n", root) == 1);
  write_file(root + "/cpu/pod/cpu.cfs_quota_us", "-1\n");
  write_file(root + "/cpu/pod/cpu.cfs_period_us", "100000\n");
  CHECK(dl::quota_cpus("7:memory:/pod\n4:cpuacct,cpu:/pod\n", root) == 0);
  write_file(root + "/cpu/pod/cpu.cfs_quota_us", "200000\n");
  CHECK(dl::quota_cpus("7:memory:/pod\n4:cpuacct,cpu:/pod\n", root) == 2);
  write_file(root + "/cpu.max", "400000 100000\n");
  CHECK(dl::quota_cpus("0::/host/path/not/here\n", root) == 4);
  for (const char* text : {"", "\n", "0", "0:", "::\n:::", "x:y"})
    dl::quota_cpus(text, root + "/missing");
  CHECK(std::system(("rm -r " + root).c_str()) == 0);
}

static void test_sizes() {
  CHECK(dl::available_cpus() >= 1);
  CHECK(dl::num_threads() >= 1);
  dl::set_num_threads(5);
  CHECK(dl::num_threads() == 5);
  for (const int n : {0, -1, 257}) {
    bool refused = false;
    try {
      dl::set_num_threads(n);
    } catch (const std::invalid_argument&) {
      refused = true;
    }
    CHECK(refused);
  }
  CHECK(dl::num_threads() == 5);
}

int main() {
  test_sizes();
  test_quotas();
  test_barriers();
  test_more_threads_than_cpus();
  test_shares();
  test_sleep_and_wake();
  test_called_is_not_awake();
  test_leaving_a_cpu();
  test_late_workers();
  test_one_caller_at_a_time();
  test_fork();
  std::puts("team: ok");
}
