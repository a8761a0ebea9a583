// The C interface, and the choice of a path for this processor.
#include <cstring>
#include <mutex>
#include <new>
#include <string>

#include "passes.h"

#ifdef APM_AVX2
#include <cpuid.h>
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

#ifndef APM_SOURCE_HASH
#define APM_SOURCE_HASH ""
#endif

namespace apm {
namespace {

#ifdef APM_AVX2
bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
[[maybe_unused]] bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
}
// The processor has tiles and bf16, and the system lets this process use them.
[[maybe_unused]] bool has_amx() {
#if defined(__linux__) && defined(SYS_arch_prctl)
  unsigned a, b, c, d, most = __get_cpuid_max(0, nullptr);
  if (!has_avx512() || most < 7) return false;
  __cpuid_count(7, 0, a, b, c, d);
  const bool tiles = (d >> 24 & 1) && (d >> 22 & 1);
  __cpuid_count(7, 1, a, b, c, d);
  constexpr long REQUEST_PERMISSION = 0x1023, TILE_DATA = 18;
  return tiles && (a >> 5 & 1) && syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
#else
  return false;
#endif
}
#endif

struct Path {
  const Kernels* exact;
  const Kernels* fast;
  const char* name;
};

// What this computer can run, best first.
std::string found_paths;
int find_paths(Path (&paths)[4]) {
  int count = 0;
#ifdef APM_AVX2
  __builtin_cpu_init();
#ifdef APM_AMX
  if (has_amx()) paths[count++] = {&avx512_kernels, &amx_kernels, "amx"};
#endif
#ifdef APM_AVX512
  if (has_avx512()) paths[count++] = {&avx512_kernels, &avx512_kernels, "avx512"};
#endif
  if (has_avx2()) paths[count++] = {&avx2_kernels, &avx2_kernels, "avx2"};
#endif
  paths[count++] = {&portable_kernels, &portable_kernels, "portable"};
  for (int i = 0; i < count; ++i) found_paths += (i ? " " : "") + std::string(paths[i].name);
  return count;
}
Path paths[4];
const int path_count = find_paths(paths);

const Path* path_of(const char* name) {
  for (int i = 0; i < path_count; ++i)
    if (!name || !std::strcmp(name, paths[i].name)) return paths + i;
  return nullptr;
}

template <class Work>
int guarded(const Work& work) {
  try {
    work();
    return 0;
  } catch (const std::bad_alloc&) {
    return -1;
  }
}

// One pass at a time over a prepared model, whose memory it works in.
template <class Work>
int in_turn(void* prepared, const Work& work) {
  Prepared& model = *static_cast<Prepared*>(prepared);
  const std::lock_guard<std::mutex> turn(model.in_use);
  return guarded([&] { work(model); });
}

}  // namespace
}  // namespace apm

using namespace apm;

extern "C" {

const char* apm_source_hash() { return APM_SOURCE_HASH; }

const char* apm_paths() { return found_paths.c_str(); }

void* apm_prepare(const ApmModel* model, const char* path, int fast, int threads) {
  const Path* found = path_of(path);
  Prepared* prepared = nullptr;
  if (found)
    guarded([&] {
      const bool half = fast && found->fast != found->exact;
      prepared = new Prepared(*model, fast ? *found->fast : *found->exact, half, threads);
    });
  return prepared;
}

int apm_update(void* prepared, const ApmModel* model) {
  return in_turn(prepared, [&](Prepared& p) { p.update(*model); });
}

void apm_release(void* prepared) { delete static_cast<Prepared*>(prepared); }

int apm_values(void* prepared, const float* points, int64_t n, float* values) {
  return in_turn(prepared, [&](Prepared& p) { find_values(p, points, n, values); });
}

int apm_lattice(void* prepared, const float* x, int64_t nx, const float* y, int64_t ny, const float* z, int64_t nz,
                float* values) {
  return in_turn(prepared, [&](Prepared& p) { find_lattice(p, {x, y, z}, {nx, ny, nz}, values); });
}

int apm_derivatives(void* prepared, const float* points, int64_t n, float* values, float* slopes) {
  return in_turn(prepared, [&](Prepared& p) { find_derivatives(p, points, n, values, slopes); });
}

int apm_loss(void* prepared, const float* points, const float* targets, const float* weights, int64_t n,
             const ApmGradients* gradients, float* squared_error) {
  return in_turn(prepared, [&](Prepared& p) {
    find_gradients(p, points, n, {targets, weights, squared_error}, *gradients);
  });
}

int64_t apm_march_field(ApmEvaluate evaluate, int threads, const ApmRays* rays, const ApmCells* cells, const ApmLook* look,
                        const ApmSeen* seen) {
  const auto ask = [&](const float* points, int64_t n, float* values, float* slopes) {
    if (evaluate(points, n, values, slopes)) throw Stopped{};
  };
  const RayField field = {[&](const float* points, int64_t n, float* values) { ask(points, n, values, nullptr); }, ask, 1, threads};
  int64_t evaluated = 0;
  try {
    const int status = guarded([&] { evaluated = march(field, *rays, *cells, *look, *seen); });
    return status ? status : evaluated;
  } catch (const Stopped&) {
    return -2;
  }
}

int64_t apm_march(void* prepared, const ApmRays* rays, const ApmCells* cells, const ApmLook* look, const ApmSeen* seen) {
  int64_t evaluated = 0;
  const int status = in_turn(prepared, [&](Prepared& p) { evaluated = march(field_of(p), *rays, *cells, *look, *seen); });
  return status ? status : evaluated;
}

int apm_disturb(const float* features, float* disturbed, int64_t count, float step, const uint32_t* seed, const char* path,
                int threads) {
  const Path* found = path_of(path);
  if (found) disturb(*found->exact, features, disturbed, count, step, seed, threads);
  return found ? 0 : -1;
}

int apm_add_bit_slopes(float* gradient, const float* features, const float* scales, int64_t count, float step, float weight,
                       const char* path, int threads) {
  const Path* found = path_of(path);
  if (found) add_slopes_of_bits(*found->exact, gradient, features, scales, count, step, weight, threads);
  return found ? 0 : -1;
}

int apm_density(const float* transforms, int32_t m, const float* points, const float* squared_error, int64_t n,
                const char* path, int threads, float* transform_gradient, double* loss) {
  const Path* found = path_of(path);
  if (!found) return -1;
  return guarded([&] {
    *loss = find_density_loss(*found->exact, transforms, m, points, squared_error, n, threads, transform_gradient);
  });
}

}  // extern "C"
