// The decoder in fp32: a matrix product for each layer over the points of a tile. Readable twin: `Network.decode`.
//
// Rows of features that a tile does not have are zero, so the first layer reads only the columns that are there.
#pragma once

namespace {

using namespace apm;

// Registers of a block of ROWS x VECTORS results; `weight(q, k)` is the factor of input row k in result row q.
template <int ROWS, int VECTORS, class Weight>
inline void multiply_block(int inner, const float* in, const Weight& weight, V (&sums)[ROWS][VECTORS]) {
  for (int k = 0; k < inner; ++k) {
    V column[VECTORS];
    for (int j = 0; j < VECTORS; ++j) column[j] = load(in + static_cast<size_t>(k) * TILE + j * W);
#pragma GCC unroll 8
    for (int q = 0; q < ROWS; ++q) {
      const V factor = all(weight(q, k));
      for (int j = 0; j < VECTORS; ++j) sums[q][j] = fma(factor, column[j], sums[q][j]);
    }
  }
}

template <int ROWS, class Weights, class Finish>
inline void multiply_rows(int row, int inner, int padded, const float* in, const Weights& weights, const Finish& finish) {
  // Few rows take more points instead: sums that do not wait for each other.
  constexpr int VECTORS = ROWS * GEMM_VECTORS >= 8 || GEMM_VECTORS == 1 ? GEMM_VECTORS : 8 / ROWS;
  for (int i = 0; i < padded; i += VECTORS * W) {
    V sums[ROWS][VECTORS];
    for (int q = 0; q < ROWS; ++q)
      for (int j = 0; j < VECTORS; ++j) sums[q][j] = zero();
    multiply_block<ROWS, VECTORS>(inner, in + i, weights(row), sums);
    for (int q = 0; q < ROWS; ++q)
      for (int j = 0; j < VECTORS; ++j) finish(row + q, i + j * W, sums[q][j]);
  }
}

// result[row] = finish(sum over k of weights(row)(q, k) * in[k]) for all rows; TILE is a multiple of every step.
template <class Weights, class Finish>
inline void multiply(int rows, int inner, int padded, const float* in, const Weights& weights, const Finish& finish) {
  int row = 0;
  for (; row + GEMM_ROWS <= rows; row += GEMM_ROWS) multiply_rows<GEMM_ROWS>(row, inner, padded, in, weights, finish);
  if constexpr (GEMM_ROWS > 4)
    for (; row + 4 <= rows; row += 4) multiply_rows<4>(row, inner, padded, in, weights, finish);
  for (; row + 2 <= rows; row += 2) multiply_rows<2>(row, inner, padded, in, weights, finish);
  for (; row < rows; ++row) multiply_rows<1>(row, inner, padded, in, weights, finish);
}

// sums[column_of(c)][row] += sum over points of slopes[row] * in[c]
template <int ROWS, class Column>
inline void outer_rows(int row, int inner, int padded, const float* slopes, const float* in, int stride, float* sums,
                       const Column& column_of) {
  int c = 0;
  for (; c + 4 <= inner; c += 4) {
    V total[ROWS][4];
    for (int q = 0; q < ROWS; ++q)
      for (int k = 0; k < 4; ++k) total[q][k] = zero();
    for (int i = 0; i < padded; i += W) {
      V column[4];
      for (int k = 0; k < 4; ++k) column[k] = load(in + static_cast<size_t>(c + k) * TILE + i);
#pragma GCC unroll 4
      for (int q = 0; q < ROWS; ++q) {
        const V slope = load(slopes + static_cast<size_t>(row + q) * TILE + i);
        for (int k = 0; k < 4; ++k) total[q][k] = fma(slope, column[k], total[q][k]);
      }
    }
    for (int q = 0; q < ROWS; ++q) {
      float four[4];
      sum4(total[q][0], total[q][1], total[q][2], total[q][3], four);
      for (int k = 0; k < 4; ++k) sums[static_cast<size_t>(column_of(c + k)) * stride + row + q] += four[k];
    }
  }
  for (; c < inner; ++c)
    for (int q = 0; q < ROWS; ++q) {
      V total = zero();
      for (int i = 0; i < padded; i += W)
        total = fma(load(slopes + static_cast<size_t>(row + q) * TILE + i), load(in + static_cast<size_t>(c) * TILE + i), total);
      sums[static_cast<size_t>(column_of(c)) * stride + row + q] += sum(total);
    }
}

template <class Column>
inline void outer(int rows, int inner, int padded, const float* slopes, const float* in, float* sums, const Column& column_of) {
  int row = 0;
  for (; row + GRADIENT_ROWS <= rows; row += GRADIENT_ROWS)
    outer_rows<GRADIENT_ROWS>(row, inner, padded, slopes, in, rows, sums, column_of);
  for (; row < rows; ++row) outer_rows<1>(row, inner, padded, slopes, in, rows, sums, column_of);
}

inline void add_row_sums(int rows, int padded, const float* slopes, float* sums) {
  for (int r = 0; r < rows; ++r) {
    V total = zero();
    for (int i = 0; i < padded; i += W) total = total + load(slopes + static_cast<size_t>(r) * TILE + i);
    sums[r] += sum(total);
  }
}

// out[row] = W in + bias, through ReLU on hidden layers.
inline void layer_forward(const Layer& layer, const float* in, int inner, const int32_t* columns, bool hidden, float* out) {
  const float* weights = layer.transposed;
  const size_t width = layer.out;
  const auto finish = [&](int row, int i, V value) {
    if (layer.bias) value = value + all(layer.bias[row]);
    store(out + static_cast<size_t>(row) * TILE + i, hidden ? most(value, zero()) : value);
  };
  if (columns)
    multiply(layer.out, inner, TILE, in, [=](int m) {
      return [=](int q, int k) { return weights[columns[k] * width + m + q]; };
    }, finish);
  else
    multiply(layer.out, inner, TILE, in, [=](int m) {
      return [=](int q, int k) { return weights[k * width + m + q]; };
    }, finish);
}

inline void decode_output(const Plan& plan, Scratch& scratch, const float* in, int inner, const int32_t* columns, float* values) {
  layer_forward(plan.layers[plan.layer_count - 1], in, inner, columns, false, values);
  if (!plan.skip) return;
  const Encoded& encoded = scratch.encoded;
  const float* skip = plan.skip_transposed;
  const int32_t* at = encoded.columns;
  const size_t width = plan.outputs;
  multiply(plan.outputs, encoded.count, TILE, encoded.rows, [=](int m) {
    return [=](int q, int k) { return skip[at[k] * width + m + q]; };
  }, [&](int row, int i, V value) {
    float* to = values + static_cast<size_t>(row) * TILE + i;
    store(to, load(to) + value);
  });
}

void decode_tile(const Plan& plan, Scratch& scratch, float* values) {
  const float* in = scratch.encoded.rows;
  int inner = scratch.encoded.count;
  const int32_t* columns = scratch.encoded.columns;
  for (int l = 0; l + 1 < plan.layer_count; ++l) {
    layer_forward(plan.layers[l], in, inner, columns, true, scratch.hidden[l]);
    in = scratch.hidden[l];
    inner = plan.layers[l].out;
    columns = nullptr;
  }
  decode_output(plan, scratch, in, inner, columns, values);
}

// Slopes of a layer's inputs from those of its outputs: all of them, masked by ReLU, or those of the columns.
inline void layer_backward(const Layer& layer, const float* slopes, const float* activation, float* out) {
  const float* weights = layer.weights;
  const size_t width = layer.in;
  multiply(layer.in, layer.out, TILE, slopes, [=](int m) {
    return [=](int q, int k) { return weights[k * width + m + q]; };
  }, [&](int row, int i, V value) {
    const size_t at = static_cast<size_t>(row) * TILE + i;
    store(out + at, where(less(zero(), load(activation + at)), value, zero()));
  });
}

inline void columns_backward(int outputs, const float* transposed, const Encoded& encoded, const float* slopes, bool add, float* out) {
  const int32_t* columns = encoded.columns;
  const size_t width = outputs;
  multiply(encoded.count, outputs, TILE, slopes, [=](int m) {
    return [=](int q, int k) { return transposed[columns[m + q] * width + k]; };
  }, [&](int row, int i, V value) {
    float* to = out + static_cast<size_t>(row) * TILE + i;
    store(to, add ? load(to) + value : value);
  });
}

inline void add_sums(const Layer& layer, int l, const float* slopes, const float* in, int inner, const int32_t* columns,
                     DecoderSums& sums) {
  if (columns)
    outer(layer.out, inner, TILE, slopes, in, sums.weights[l], [=](int c) { return columns[c]; });
  else
    outer(layer.out, inner, TILE, slopes, in, sums.weights[l], [](int c) { return c; });
  if (layer.bias) add_row_sums(layer.out, TILE, slopes, sums.biases[l]);
}

inline void skip_backward(const Plan& plan, Scratch& scratch, const float* value_slopes, DecoderSums* sums) {
  const Encoded& encoded = scratch.encoded;
  const int32_t* columns = encoded.columns;
  columns_backward(plan.outputs, plan.skip_transposed, encoded, value_slopes, true, scratch.encoded_slopes);
  if (sums)
    outer(plan.outputs, encoded.count, TILE, value_slopes, encoded.rows, sums->skip, [=](int c) { return columns[c]; });
}

void decode_backward_tile(const Plan& plan, Scratch& scratch, const float* value_slopes, DecoderSums* sums) {
  const float* slopes = value_slopes;
  for (int l = plan.layer_count - 1; l >= 0; --l) {
    const Layer& layer = plan.layers[l];
    const Encoded& encoded = scratch.encoded;
    if (sums) {
      if (l)
        add_sums(layer, l, slopes, scratch.hidden[l - 1], layer.in, nullptr, *sums);
      else
        add_sums(layer, l, slopes, encoded.rows, encoded.count, encoded.columns, *sums);
    }
    float* out = scratch.slopes[l % 2];
    if (l)
      layer_backward(layer, slopes, scratch.hidden[l - 1], out);
    else
      columns_backward(layer.out, layer.transposed, encoded, slopes, false, scratch.encoded_slopes);
    slopes = out;
  }
  if (plan.skip) skip_backward(plan, scratch, value_slopes, sums);
}

}  // namespace
