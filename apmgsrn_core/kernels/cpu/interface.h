// The C interface of the CPU kernels, called through ctypes (`../cpu_library.py` declares the same structures).
//
// Conventions are those of `apmgsrn_core/network/encoding.py`: points are (n, 3) float32 normalised coordinates, x first; all
// features are one flat array, a grid's block in it is [feature][z][y][x]; transforms are (m, 3, 4); weights are
// [output][input]. Nothing here keeps a pointer after a call has returned.
#pragma once
#include <cstddef>
#include <cstdint>

extern "C" {

struct ApmGrid {
  int32_t resolution[3];  // nodes along x, y, z
  int32_t features;
  int32_t quadratic;  // 0: trilinear, 1: quadratic B-spline
  int32_t transform;  // index of its transform; -1: a global lattice
};

struct ApmModel {
  int32_t grid_count;
  int32_t layer_count;  // of the decoder, at least 1
  const ApmGrid* grids;
  const int32_t* widths;        // layer_count + 1: columns, hidden widths, outputs
  const float* features;        // flat
  const float* transforms;      // (m, 3, 4)
  const float* const* weights;  // layer_count pointers
  const float* const* biases;   // layer_count pointers, each may be null
  const float* skip;            // [output][column] or null
};

// Where a training pass leaves its gradients; each is overwritten. Null: not wanted.
struct ApmGradients {
  float* features;
  float* transforms;
  float* const* weights;
  float* const* biases;
  float* skip;
};

const char* apm_source_hash();
// Names of the paths that this computer can run, best first, separated by blanks. "amx" is "avx512" with bf16 decoders
// for what is prepared as fast.
const char* apm_paths();

// A prepared model: features in the kernels' own layout, and memory to work in. The path is a name from `apm_paths`, null
// for the best. Null when there is no such path or memory is short. Passes over one prepared model take turns.
void* apm_prepare(const ApmModel* model, const char* path, int fast, int threads);
// Take up new numbers in a model of the same shape.
int apm_update(void* prepared, const ApmModel* model);
void apm_release(void* prepared);

// values (n, outputs). 0, or -1 when memory is short.
int apm_values(void* prepared, const float* points, int64_t n, float* values);
// values[z][y][x][output] at the product of three axes of coordinates.
int apm_lattice(void* prepared, const float* x, int64_t nx, const float* y, int64_t ny, const float* z, int64_t nz,
                float* values);
// values (n, outputs) and slopes (n, outputs, 3): d value / d normalised coordinate.
int apm_derivatives(void* prepared, const float* points, int64_t n, float* values, float* slopes);
// Gradients of sum over points of weight / n * squared error, the squared error (n,) being a mean over outputs.
int apm_loss(void* prepared, const float* points, const float* targets, const float* weights, int64_t n,
             const ApmGradients* gradients, float* squared_error);
// The published density loss and its gradient with respect to `transforms` (m, 3, 4).
int apm_density(const float* transforms, int32_t m, const float* points, const float* squared_error, int64_t n,
                const char* path, int threads, float* transform_gradient, double* loss);

// One step of Adam on `count` numbers, in place (Kingma and Ba 2015, algorithm 1); `step` counts from 1.
void apm_adam(float* values, const float* gradient, float* mean, float* square, int64_t count, int64_t step, double rate,
              double beta_1, double beta_2, double epsilon, int threads);

// Features (count,) as they are seen while they are learned to be rounded: with noise of a seed, or rounded where it is null;
// and weight * d bits / d feature added to a gradient, scales (count,) in rounding steps. 0, or -1: there is no such path.
int apm_disturb(const float* features, float* disturbed, int64_t count, float step, const uint32_t* seed, const char* path,
                int threads);
int apm_add_bit_slopes(float* gradient, const float* features, const float* scales, int64_t count, float step, float weight,
                       const char* path, int threads);

// Rays through a volume (`apmgsrn_core/rendering/ray_march.py`): samples are `start + i * along` in box coordinates, i < steps.
struct ApmRays {
  int64_t count;
  const int64_t* rows;    // (count,) where the results of each are
  const float* start;     // (count, 3)
  const float* along;     // (count, 3)
  const int64_t* first;   // (count,) steps from the eye to `start`
  const int64_t* steps;   // (count,)
};

// Equal parts of the volume's box, x fastest.
struct ApmCells {
  int32_t counts[3];
  const uint8_t* far;      // cells to the nearest one that can be seen; 0: it can be seen
  const uint8_t* lengths;  // steps from one sample to the next, powers of 2; null: 1
  const float* highest;    // the largest value
};

enum ApmMode { APM_COMPOSITE = 0, APM_MAXIMUM = 1, APM_AVERAGE = 2 };

struct ApmLook {
  int32_t mode;
  int32_t column;             // of the outputs
  float scale[3], offset[3];  // from box to normalised coordinates
  float slopes[9];            // [normalised][world] d normalised / d world
  const float* table;         // (rows, 4) red, green, blue, opacity of the unit distance
  int32_t rows;
  float table_first, rows_per_value;  // value of the first row
  float exponent;             // a step in unit distances
  float limit;                // of a ray's opacity
  const float* directions;    // [row] (3,) of rays in the world; null: not lit
  float ambient, diffuse, specular, power;
};

// What rays have come to, by row; depths are steps from the eye.
struct ApmSeen {
  float* colour;   // (rows, 3) times opacity
  float* opacity;  // (rows,)
  float* depth;    // (rows,)
  float* sums;     // composite: (rows,) depth times opacity; maximum: (rows,) value; average: (rows, 3) count, value, depth
};

// Any field: points (n, 3) -> values (n,), or slopes (n, 3) d value / d normalised coordinate where they are not null. What
// is not 0 ends the march.
typedef int (*ApmEvaluate)(const float* points, int64_t n, float* values, float* slopes);

// March rays to their ends, or until they are opaque. How many values and slopes were evaluated, or -1 when memory is short,
// -2 when `evaluate` ended it.
int64_t apm_march_field(ApmEvaluate evaluate, int threads, const ApmRays* rays, const ApmCells* cells, const ApmLook* look,
                        const ApmSeen* seen);
int64_t apm_march(void* prepared, const ApmRays* rays, const ApmCells* cells, const ApmLook* look, const ApmSeen* seen);

// An array on a lattice, values[z][y][x][component].
struct ApmArray {
  const void* values;
  int32_t type;        // see `ValueType` in batch.cpp
  int32_t components;
  int64_t dims[3];     // values along x, y, z
  int64_t strides[4];  // bytes from one x, y, z, component to the next
  double minimum, span;
};

// Random numbers first, first + 1, ... of a seed, uniform in [0, 1): the upper 53 bits of splitmix64 (Steele, Lea and Flood
// 2014, figure 14) at seed + (index + 1) * 0x9e3779b97f4a7c15.
void apm_random(uint64_t seed, uint64_t first, int64_t count, double* numbers, int threads);

// How positions in the unit cube become a batch. Readable twin: `apmgsrn_core/training/sampler.py`.
struct ApmDraw {
  int32_t blocks[3];         // of the error map along x, y, z
  int32_t continuous;        // 0: the data's own values, 1: any position, interpolated
  int64_t picked;            // the first so many positions move to blocks
  const double* picks;       // (picked,) in [0, 1)
  const double* cumulative;  // of the blocks' probabilities, or null: no block is preferred
  const double* probability;
};
// unit (n, 3), moved in place -> points (n, 3), targets (n, components), weights (n,), block of each point (n,).
void apm_draw(const ApmArray* array, const ApmDraw* draw, double* unit, int64_t n, float* points, float* targets,
              float* weights, int64_t* blocks, int threads);

// What coding the numbers of a network ends with.
enum ApmCoding { APM_DONE = 0, APM_NO_WORDS, APM_NO_PLAIN_BITS, APM_TOO_LARGE, APM_NO_MEMORY };

// Coders of whole numbers in lanes. Readable twins: `apmgsrn_core/file/lane_coding.py`, `_code_numbers` in
// `time_coding.py`.
struct ApmLanes {
  int64_t* counts;       // [class][token] of `Frequencies`; each at most 2^48, they adapt
  uint32_t* slots;       // writing: of each number first | frequency << 16, from the front in every call; null: reading
  int64_t* states;       // reading: of each lane, below 2^32
  const uint8_t* words;  // reading: of 16 bits, low byte first
  int64_t word_count;
  int64_t word;          // the next; moves on
  uint8_t* plain;        // bits, high ones first; writing: zeros from `bit` on
  int64_t plain_bits;    // that there are, or that there is room for
  int64_t bit;           // the next; moves on
};

struct ApmLattice {
  int64_t nodes[3];   // along z, y, x
  int64_t lanes;      // nodes * lanes is at most 2^28
  int8_t weights[7];  // in 64ths, of the neighbours at -1 along x, y, xy, z, xz, yz, xyz
};

// Write or read one number for each of the first `count` lanes. Too large: an unknown class, or |number| >= 2^30.
int apm_code_row(ApmLanes* lanes, const int64_t* classes, int64_t count, int64_t* numbers);
// numbers[z][y][x][lane], written or read. Too large: |number| >= 2^26.
int apm_code_lattice(ApmLanes* lanes, const ApmLattice* lattice, int64_t* numbers);
// The end of writing: words of slots (rows, count), those of the last call first. words (rows * count,) is filled from
// its end; returns how many. `states` begin at 2^16 and are those that reading begins with.
int64_t apm_words_of(const uint32_t* slots, int64_t rows, int64_t count, int64_t* states, uint16_t* words);

// A block of values [z][y][x] in units, of which a rounding step has 1024. Readable twin:
// `apmgsrn_core/residual/block_coding.py`.
struct ApmBlock {
  int64_t nodes[3];  // along z, y, x
  int64_t* choices;  // (3, 7) numbers of the weights of the finest levels' phases
  int64_t* numbers;  // [z][y][x] steps that are coded
  int64_t* known;    // [z][y][x] values that they stand for; before writing anything
  int32_t* rows;     // of each coded row how many numbers it has; room for 2 * nodes + 64 of them
};

// values, of at most 2^25 steps, and free [z][y][x] (1: any value will do) or null -> choices, numbers and known.
void apm_quantise_block(const ApmBlock* block, const int64_t* values, const uint8_t* free);
// Write or read a block in rows of so many lanes; rows are counted from the front. Too large: what there cannot be.
int apm_code_block(ApmLanes* lanes, int64_t count, const ApmBlock* block);
// `apm_words_of` of rows that have `rows[i]` slots each; words has room for all slots and is filled from its end.
int64_t apm_words_of_rows(const uint32_t* slots, const int32_t* rows, int64_t count, int64_t* states, uint16_t* words);

}  // extern "C"
