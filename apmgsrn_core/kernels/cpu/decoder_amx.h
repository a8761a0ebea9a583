// The hidden layers of the decoder in bf16 with fp32 sums, on AMX tiles; the output layer and the skip stay in fp32.
//
// Rounding to bf16 leaves a relative error of 2^-9 in each factor: measured against fp32, values differ by about 5e-4 of
// the range (root mean square), a noise floor near 67 dB (`tests/test_cpu_kernels.py` bounds it).
//
// An AMX tile is 16 rows of 64 bytes. A product C = A B takes A as 16 rows of 32 bf16, B as 16 rows of 16 pairs
// ("pair rows": row r holds elements 2r and 2r + 1 of every column, side by side).
#pragma once

namespace {

using namespace apm;

using Half = uint16_t;
constexpr int SIDE = 16, PAIRS = 32;  // rows of a tile, bf16 in a row

inline int up(int n, int step) { return (n + step - 1) / step * step; }

struct HalfScratch {
  Half *pairs, *next_pairs, *rows, *turned, *weights;

  HalfScratch(const Plan& plan, void* memory) {
    const size_t widest = up(plan.widest > plan.columns ? plan.widest : plan.columns, PAIRS);
    Half* at = static_cast<Half*>(memory);
    pairs = at, at += widest * TILE;
    next_pairs = at, at += widest * TILE;
    rows = at, at += widest * TILE;
    turned = at, at += widest * TILE;
    weights = at;
  }
};

struct alignas(64) TileConfig {
  uint8_t palette = 1, start = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
struct UseTiles {
  UseTiles() {
    const TileConfig config;
    _tile_loadconfig(&config);
  }
  ~UseTiles() { _tile_release(); }
};

inline I to_half(V low, V high) { return (I)_mm512_cvtne2ps_pbh(high, low); }

// Two rows of 16 points -> one pair row.
inline void store_pair(Half* out, V even, V odd) {
  const I order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4,
                                   19, 3, 18, 2, 17, 1, 16, 0);
  _mm512_storeu_si512(out, _mm512_permutexvar_epi16(order, to_half(even, odd)));
}

// Where the pair rows of a group of 16 points begin: [group][count to 32, / 2][16 points][2]
inline Half* group_pairs(Half* pairs, int count, int group) {
  return pairs + static_cast<size_t>(group) * (up(count, PAIRS) / 2) * PAIRS;
}

// fp32 [count][TILE] -> pair rows; rows that are missing are 0.
inline void make_pairs(const float* in, int count, Half* out) {
  for (int r = 0; r < up(count, PAIRS) / 2; ++r) {
    const float* even = in + static_cast<size_t>(2 * r) * TILE;
    for (int j = 0; j < TILE / SIDE; ++j)
      store_pair(group_pairs(out, count, j) + r * PAIRS, 2 * r < count ? load(even + j * SIDE) : zero(),
                 2 * r + 1 < count ? load(even + TILE + j * SIDE) : zero());
  }
}

// fp32 [count][TILE] -> bf16 [count to 32][TILE]
inline void make_rows(const float* in, int count, Half* out) {
  for (int r = 0; r < up(count, PAIRS); ++r)
    for (int i = 0; i < TILE; i += PAIRS) {
      const float* from = in + static_cast<size_t>(r) * TILE + i;
      _mm512_storeu_si512(out + static_cast<size_t>(r) * TILE + i,
                          r < count ? to_half(load(from), load(from + W)) : _mm512_setzero_si512());
    }
}

// 16 rows of 16 pairs of points -> pair rows: [pair of points][16 rows][2]
inline void turn(const Half* in, size_t stride, Half* out) {
  I r[16], t[16];
  for (int i = 0; i < 16; ++i) r[i] = _mm512_loadu_si512(in + i * stride);
  for (int i = 0; i < 8; ++i) {
    t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
  }
  for (int i = 0; i < 4; ++i) {
    r[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
    r[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
    r[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
    r[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
  }
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm512_shuffle_i32x4(r[i], r[4 + i], 0x88);
    t[4 + i] = _mm512_shuffle_i32x4(r[i], r[4 + i], 0xdd);
    t[8 + i] = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0x88);
    t[12 + i] = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0xdd);
  }
  for (int i = 0; i < 8; ++i) {
    _mm512_storeu_si512(out + i * PAIRS, _mm512_shuffle_i32x4(t[i], t[8 + i], 0x88));
    _mm512_storeu_si512(out + (8 + i) * PAIRS, _mm512_shuffle_i32x4(t[i], t[8 + i], 0xdd));
  }
}

// finish(row, group, block): rows row to row + 63, as far as there are, of A [rows to 16][inner to 32] times the pair rows of
// a group of 16 points lie in `block` [64][16].
template <class Finish>
inline void half_multiply(const Half* a, size_t stride, int rows, int inner, const Half* pairs, const Finish& finish) {
  const int steps = up(inner, PAIRS) / PAIRS;
  alignas(64) float block[4 * SIDE * SIDE];
  for (int j = 0; j < TILE / SIDE; ++j) {
    const Half* b = group_pairs(const_cast<Half*>(pairs), inner, j);
    for (int row = 0; row < rows; row += 4 * SIDE) {
      const int tiles = up(rows - row, SIDE) / SIDE;
      _tile_zero(0);
      _tile_zero(1);
      _tile_zero(2);
      _tile_zero(3);
      for (int k = 0; k < steps; ++k) {
        const Half* from = a + row * stride + k * PAIRS;
        _tile_loadd(4, b + static_cast<size_t>(k) * SIDE * PAIRS, 64);
        _tile_loadd(5, from, stride * 2);
        _tile_dpbf16ps(0, 5, 4);
        if (tiles > 1) {
          _tile_loadd(6, from + SIDE * stride, stride * 2);
          _tile_dpbf16ps(1, 6, 4);
        }
        if (tiles > 2) {
          _tile_loadd(7, from + 2 * SIDE * stride, stride * 2);
          _tile_dpbf16ps(2, 7, 4);
        }
        if (tiles > 3) {
          _tile_loadd(5, from + 3 * SIDE * stride, stride * 2);
          _tile_dpbf16ps(3, 5, 4);
        }
      }
      _tile_stored(0, block, 64);
      if (tiles > 1) _tile_stored(1, block + SIDE * SIDE, 64);
      if (tiles > 2) _tile_stored(2, block + 2 * SIDE * SIDE, 64);
      if (tiles > 3) _tile_stored(3, block + 3 * SIDE * SIDE, 64);
      finish(row, j, block);
    }
  }
}

// The columns that a tile has, of weights [out to 16][in to 32] -> [out to 16][inner to 32]
inline void pick_columns(const Layer& layer, const Encoded& encoded, Half* out) {
  const size_t from = up(layer.in, PAIRS), to = up(encoded.count, PAIRS);
  bool paired = encoded.count % 2 == 0;
  for (int k = 0; k < encoded.count && paired; k += 2)
    paired = encoded.columns[k] % 2 == 0 && encoded.columns[k + 1] == encoded.columns[k] + 1;
  for (int m = 0; m < layer.out; ++m) {
    const Half* source = layer.half + m * from;
    Half* target = out + m * to;
    if (paired)
      for (int k = 0; k < encoded.count; k += 2) __builtin_memcpy(target + k, source + encoded.columns[k], 4);
    else
      for (int k = 0; k < encoded.count; ++k) target[k] = source[encoded.columns[k]];
    for (size_t k = encoded.count; k < to; ++k) target[k] = 0;
  }
}

// A hidden layer: its outputs as pair rows for the next one, and in fp32 where they are needed again.
inline void half_layer_forward(const Layer& layer, const Half* weights, int inner, const Half* in, Half* out, float* kept) {
  half_multiply(weights, up(inner, PAIRS), layer.out, inner, in, [&](int row, int j, const float* block) {
    Half* pairs = out ? group_pairs(out, layer.out, j) + row / 2 * PAIRS : nullptr;
    const int last = layer.out - row < 4 * SIDE ? layer.out - row : 4 * SIDE;
    for (int r = 0; r < up(last, PAIRS); r += 2) {
      V pair[2] = {zero(), zero()};
      for (int q = 0; q < 2 && r + q < last; ++q) {
        const V bias = layer.bias ? all(layer.bias[row + r + q]) : zero();
        pair[q] = most(load(block + (r + q) * SIDE) + bias, zero());
        if (kept) store(kept + static_cast<size_t>(row + r + q) * TILE + j * SIDE, pair[q]);
      }
      if (pairs) store_pair(pairs + r / 2 * PAIRS, pair[0], pair[1]);
    }
  });
}

void half_decode_tile(const Plan& plan, Scratch& scratch, float* values) {
  HalfScratch half(plan, scratch.half);
  const Encoded& encoded = scratch.encoded;
  const int last = plan.layer_count - 1;
  if (!last) return decode_output(plan, scratch, encoded.rows, encoded.count, encoded.columns, values);
  {
    const UseTiles tiles;
    int inner = encoded.count;
    make_pairs(encoded.rows, inner, half.pairs);
    for (int l = 0; l < last; ++l) {
      const Layer& layer = plan.layers[l];
      const Half* weights = layer.half;
      if (!l && inner < layer.in) pick_columns(layer, encoded, half.weights), weights = half.weights;
      const bool output_reads_it = l + 1 == last;
      half_layer_forward(layer, weights, inner, half.pairs, output_reads_it ? nullptr : half.next_pairs,
                         output_reads_it || scratch.keep_hidden ? scratch.hidden[l] : nullptr);
      Half* const read = half.pairs;
      half.pairs = half.next_pairs;
      half.next_pairs = read;
      inner = layer.out;
    }
  }
  decode_output(plan, scratch, scratch.hidden[last - 1], plan.layers[last].in, nullptr, values);
}

// sums[column_of(k)][m] += sum over points of in[k] * slopes[m]; `turned` are the slopes as pair rows of points.
inline void half_outer(const HalfScratch& half, int inner, int outputs, const int32_t* columns, float* sums) {
  const int blocks = up(outputs, SIDE) / SIDE;
  for (int k = 0; k < inner; k += 2 * SIDE)
    for (int m = 0; m < blocks; m += 2) {
      _tile_zero(0);
      _tile_zero(1);
      _tile_zero(2);
      _tile_zero(3);
      for (int b = 0; b < TILE / PAIRS; ++b) {
        const Half* turned = half.turned + (static_cast<size_t>(b) * up(blocks, 2) + m) * SIDE * PAIRS;
        _tile_loadd(4, half.rows + static_cast<size_t>(k) * TILE + b * PAIRS, TILE * 2);
        _tile_loadd(5, half.rows + static_cast<size_t>(k + SIDE) * TILE + b * PAIRS, TILE * 2);
        _tile_loadd(6, turned, 64);
        _tile_loadd(7, turned + SIDE * PAIRS, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
      }
      alignas(64) float block[2 * SIDE][2 * SIDE];
      _tile_stored(0, &block[0][0], sizeof block[0]);
      _tile_stored(1, &block[0][SIDE], sizeof block[0]);
      _tile_stored(2, &block[SIDE][0], sizeof block[0]);
      _tile_stored(3, &block[SIDE][SIDE], sizeof block[0]);
      const int left = outputs - m * SIDE;
      for (int q = 0; q < 2 * SIDE && k + q < inner; ++q) {
        float* to = sums + static_cast<size_t>(columns ? columns[k + q] : k + q) * outputs + m * SIDE;
        for (int part = 0; part < 2 && part * SIDE < left; ++part) {
          const int n = left - part * SIDE;
          const Mask mask = n >= SIDE ? 0xFFFF : (1u << n) - 1;
          const V sum = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, to + part * SIDE), load(&block[q][part * SIDE]));
          _mm512_mask_storeu_ps(to + part * SIDE, mask, sum);
        }
      }
    }
}

inline void half_add_sums(const HalfScratch& half, const Layer& layer, int l, const float* slopes, const float* in, int inner,
                          const int32_t* columns, DecoderSums& sums) {
  make_rows(slopes, layer.out, half.rows);
  const int blocks = up(up(layer.out, SIDE) / SIDE, 2);
  for (int b = 0; b < TILE / PAIRS; ++b)
    for (int m = 0; m < blocks; ++m)
      turn(half.rows + static_cast<size_t>(m) * SIDE * TILE + b * PAIRS, TILE,
           half.turned + (static_cast<size_t>(b) * blocks + m) * SIDE * PAIRS);
  make_rows(in, inner, half.rows);
  half_outer(half, inner, layer.out, columns, sums.weights[l]);
  if (layer.bias) add_row_sums(layer.out, TILE, slopes, sums.biases[l]);
}

// Slopes of a hidden layer's inputs.
inline void half_layer_backward(const Plan& plan, Scratch& scratch, const HalfScratch& half, int l, const float* slopes) {
  const Layer& layer = plan.layers[l];
  const Encoded& encoded = scratch.encoded;
  const size_t stride = up(layer.out, PAIRS);
  const int rows = l ? layer.in : encoded.count;
  const Half* weights = layer.half_transposed;
  if (!rows) return;
  if (!l) {
    for (int r = 0; r < up(rows, SIDE); ++r)  // past the last column: any row, its product is not used
      __builtin_memcpy(half.weights + r * stride, weights + encoded.columns[r < rows ? r : 0] * stride, stride * 2);
    weights = half.weights;
  }
  const float* activation = l ? scratch.hidden[l - 1] : nullptr;
  float* out = l ? scratch.slopes[l % 2] : scratch.encoded_slopes;
  make_pairs(slopes, layer.out, half.pairs);
  half_multiply(weights, stride, rows, layer.out, half.pairs, [&](int row, int j, const float* block) {
    for (int r = 0; r < 4 * SIDE && row + r < rows; ++r) {
      const size_t at = static_cast<size_t>(row + r) * TILE + j * SIDE;
      const V slope = load(block + r * SIDE);
      store(out + at, activation ? where(less(zero(), load(activation + at)), slope, zero()) : slope);
    }
  });
}

void half_decode_backward_tile(const Plan& plan, Scratch& scratch, const float* value_slopes, DecoderSums* sums) {
  if (plan.layer_count == 1) return decode_backward_tile(plan, scratch, value_slopes, sums);
  const HalfScratch half(plan, scratch.half);
  const Encoded& encoded = scratch.encoded;
  const int last = plan.layer_count - 1;
  if (sums) add_sums(plan.layers[last], last, value_slopes, scratch.hidden[last - 1], plan.layers[last].in, nullptr, *sums);
  layer_backward(plan.layers[last], value_slopes, scratch.hidden[last - 1], scratch.slopes[last % 2]);
  {
    const UseTiles tiles;
    for (int l = last - 1; l >= 0; --l) {
      const Layer& layer = plan.layers[l];
      const float* slopes = scratch.slopes[(l + 1) % 2];
      if (sums && l) half_add_sums(half, layer, l, slopes, scratch.hidden[l - 1], layer.in, nullptr, *sums);
      if (sums && !l) half_add_sums(half, layer, l, slopes, encoded.rows, encoded.count, encoded.columns, *sums);
      half_layer_backward(plan, scratch, half, l, slopes);
    }
  }
  if (plan.skip) skip_backward(plan, scratch, value_slopes, sums);
}

}  // namespace
