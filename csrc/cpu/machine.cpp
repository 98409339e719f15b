#include "cpu/machine.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <stdexcept>
#include <string>

#include "cpu/cpu.h"
#include "cpu/cpu_program.h"
#include "cpu/team.h"

namespace dl {

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Calls f(team, rank) on exactly `threads` threads.
template <class F>
void on_team(int threads, F f) {
  if (threads < 1 || threads > kMaxThreads) {
    throw std::invalid_argument("threads: expected 1 to " + std::to_string(kMaxThreads) + ", got " +
                                std::to_string(threads));
  }
  Team& team = Team::current();
  const int size = team.acquire(threads);
  if (size == threads) {
    team.run(size, [](void* g, Team& t, int rank, int) { (*static_cast<F*>(g))(t, rank); }, &f);
  }
  if (size > 0) team.release();
  if (size != threads)
    throw std::runtime_error("team: expected " + std::to_string(threads) + " free threads, got " +
                             std::to_string(size));
}

// Best rate of `rounds`: work(rank) returns what one thread has done, in flops or bytes.
template <class Work>
double best_rate(int threads, Work work, int rounds = 7) {
  std::atomic<double> done{0};
  double best = 0;
  on_team(threads, [&](Team& team, int rank) {
    for (int round = 0; round < rounds; ++round) {
      team.barrier(rank);
      const auto start = Clock::now();
      const double mine = work(rank);
      double sum = done.load();
      while (!done.compare_exchange_weak(sum, sum + mine)) {
      }
      team.barrier(rank);
      if (rank == 0) best = std::max(best, done.exchange(0) / seconds_since(start));
    }
  });
  return best;
}

}  // namespace

double fma_peak(int threads) {
  const auto probe = level().probes.multiply_add;
  return best_rate(threads, [probe](int) { return probe(2'000'000); });
}

double read_bandwidth(int64_t bytes, int threads) {
  constexpr int64_t kUnit = 1024;        // what probe.read reads wholly, at every level
  constexpr int64_t kTotal = 256 << 20;  // read in one round
  if (bytes < kUnit * threads)
    throw std::invalid_argument("read_bandwidth: expected at least 1024 bytes a thread, got " +
                                std::to_string(bytes));
  const Buffer buffer(bytes);
  const auto probe = level().probes.read;
  const int64_t share = bytes / threads / kUnit * kUnit;
  const int64_t repeats = std::max<int64_t>(1, kTotal / threads / share);
  return best_rate(threads, [&](int rank) {
    double checksum = 0;
    for (int64_t i = 0; i < repeats; ++i) checksum += probe(buffer.data() + rank * share, share);
    return static_cast<double>(repeats * share) + checksum;  // the buffer holds zeros
  });
}

static bool one_core() { return num_threads() < 2 || available_cpus() < 2; }

double two_thread_gain() {
  if (one_core()) return std::nan("");
  const auto probe = level().probes.multiply_add;
  const auto rate = [probe](int threads) {
    return best_rate(threads, [probe](int) { return probe(100'000); }, 3);
  };
  return rate(2) / rate(1);
}

double latency_ns() {
  if (one_core()) return std::nan("");
  // Short rounds and an end after 20 ms: on a busy machine a trip takes a time slice.
  constexpr int kTrips = 50, kRounds = 300;
  struct alignas(kLine) {
    std::atomic<int> value{0};
  } ball;
  std::atomic<bool> over{false};
  double best = INFINITY;
  on_team(2, [&](Team& team, int rank) {
    const auto begin = Clock::now();
    for (int round = 0; round < kRounds && !over.load(); ++round) {
      if (rank == 0) ball.value.store(0);
      team.barrier(rank);
      const auto start = Clock::now();
      for (int trip = 0; trip < kTrips; ++trip) {
        while (ball.value.load(std::memory_order_acquire) != 2 * trip + rank) {
        }
        ball.value.store(2 * trip + rank + 1, std::memory_order_release);
      }
      if (rank == 0) {
        best = std::min(best, seconds_since(start) / (2 * kTrips) * 1e9);
        over.store(seconds_since(begin) > 0.02);
      }
      team.barrier(rank);
    }
  });
  return best;
}

}  // namespace dl
