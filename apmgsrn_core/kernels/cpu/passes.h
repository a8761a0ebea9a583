// Passes over many points. Each is split into pieces that do not depend on the number of threads, and sums over pieces
// are added in the pieces' order: the same input gives the same bits on any number of threads.
#pragma once
#include <functional>

#include "prepared.h"

namespace apm {

void find_values(Prepared& model, const float* points, int64_t n, float* values);
void find_lattice(Prepared& model, const float* const (&axes)[3], const int64_t (&size)[3], float* values);
void find_derivatives(Prepared& model, const float* points, int64_t n, float* values, float* slopes);

// What a training pass follows, and where it leaves the squared errors.
struct Objective {
  const float* targets;  // (n, outputs)
  const float* weights;  // (n,)
  float* squared_error;  // (n,)
};
void find_gradients(Prepared& model, const float* points, int64_t n, const Objective& objective,
                    const ApmGradients& gradients);

// Features that are learned to be rounded; a null `seed` rounds them, see `feature_bits.h`.
void disturb(const Kernels& kernels, const float* features, float* disturbed, int64_t count, float step,
             const uint32_t* seed, int threads);
void add_slopes_of_bits(const Kernels& kernels, float* gradient, const float* features, const float* scales, int64_t count,
                        float step, float weight, int threads);

// What rays are marched through.
struct RayField {
  std::function<void(const float* points, int64_t n, float* values)> values;                  // (n, outputs)
  std::function<void(const float* points, int64_t n, float* values, float* slopes)> slopes;  // and (n, outputs, 3)
  int outputs, threads;
};
struct Stopped {};  // thrown by a field's functions

RayField field_of(Prepared& model);
int64_t march(const RayField& field, const ApmRays& rays, const ApmCells& cells, const ApmLook& look, const ApmSeen& seen);

double find_density_loss(const Kernels& kernels, const float* transforms, int m, const float* points,
                         const float* squared_error, int64_t n, int threads, float* transform_gradient);

}  // namespace apm
