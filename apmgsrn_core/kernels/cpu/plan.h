// What the passes and the kernels of every instruction set agree on. Plain data: no templates of the standard library,
// so that no function compiled for one instruction set can be shared with another.
#pragma once
#include "interface.h"

namespace apm {

constexpr int TILE = 256;      // points that go through the network together
constexpr int MOST_WIDTH = 8;  // features that are read together
constexpr int SPARE = 16;      // floats past the end of a buffer that vector code may touch
constexpr int MOST_LAYERS = 20;

// Features of one grid that are read together: packed as [z][y][x][width], so that the neighbours along x of a point lie
// in one row of memory.
struct Slot {
  int resolution[3];
  int nodes[3];  // of the packed copy
  int features;  // of the model
  int width;     // packed: 1, 2, 4 or 8
  int column;    // the first feature's column
  int transform;
  int quadratic;
  float reach[3];          // |local coordinate| from which on a placed grid is zero
  float scale[3], shift[3];  // local coordinate -> node
  size_t planar;           // of the first feature in the flat features
  size_t packed;           // in the packed copy
};

struct Layer {
  int in, out;
  const float* weights;     // [out][in]
  const float* transposed;  // [in][out]
  const float* bias;
  const uint16_t* half;             // bf16 [out to 16][in to 32]
  const uint16_t* half_transposed;  // bf16 [in to 32][out to 32]
};

struct Plan {
  int slot_count, columns, outputs, layer_count, widest, threads, fast;
  const Slot* slots;
  const float* packed;      // features
  const float* transforms;  // (m, 3, 4)
  const float* boxes;       // [low x, y, z, high x, y, z][slot to SPARE]: outside a slot is zero; unbounded for lattices
  Layer layers[MOST_LAYERS];
  const float* skip;             // [output][column]
  const float* skip_transposed;  // [column][output]
};

// Points of a tile, as rows. Past `count` the last point is repeated.
struct Tile {
  alignas(64) float at[3][TILE];
  float low[3], high[3];
  int count;
  int row_length;  // points that differ in x only; 0 when nothing is known
};

// The grids that matter in a tile: `row[slot]` is the first of their rows, -1 where a grid is zero.
struct Encoded {
  float* rows;       // [row][TILE]
  int32_t* row;      // [slot]
  int32_t* columns;  // [row]: the column it stands for
  int count;         // rows
};

// Memory of one thread.
struct Scratch {
  Encoded encoded;
  float* hidden[MOST_LAYERS];  // outputs of the layers, [width][TILE]
  float* slopes[2];            // [widest][TILE]
  float* encoded_slopes;       // [row][TILE]
  bool keep_hidden;            // for a way back; without one, only what the output layer reads
  void* half;                  // for the bf16 decoder
};

// Sums over points, one set for each chunk of a batch.
struct DecoderSums {
  float* weights[MOST_LAYERS];  // [in][out]
  float* biases[MOST_LAYERS];
  float* skip;  // [column][output]
};

struct SlotGradients {
  float* features;    // packed layout, or null
  float* transforms;  // 12 sums, or null
  float* points;      // [3][TILE] sums, or null
};

// The functions of one instruction set.
struct Kernels {
  const char* name;
  void (*encode)(const Plan&, const Tile&, Encoded&);
  // values: [output][TILE]
  void (*decode)(const Plan&, Scratch&, float* values);
  // value_slopes: [output][TILE] -> scratch.encoded_slopes; sums may be null.
  void (*decode_backward)(const Plan&, Scratch&, const float* value_slopes, DecoderSums* sums);
  void (*slot_backward)(const Plan&, const Slot&, const Tile&, const float* slopes, const SlotGradients&);
  // density[TILE] of one tile; and sums of slope * d density (12 numbers and the coefficient's) for one grid
  void (*density)(const float* transforms, const float* coefficients, int m, const Tile&, float* density);
  void (*density_backward)(const float* transform, float coefficient, const Tile&, const float* slopes, double* sums);
  // Of the features from `first` on, below `stop`.
  void (*disturb_features)(const float* features, float* disturbed, int64_t first, int64_t stop, float step, uint32_t seed);
  void (*round_features)(const float* features, float* rounded, int64_t first, int64_t stop, float step);
  void (*add_bit_slopes)(float* gradient, const float* features, const float* scales, int64_t first, int64_t stop, float step,
                         float weight);
};

size_t half_scratch_bytes(const Plan& plan);

extern const Kernels portable_kernels;
extern const Kernels avx2_kernels, avx512_kernels, amx_kernels;  // where the compiler knows them

}  // namespace apm
