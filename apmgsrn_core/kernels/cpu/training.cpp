// Gradients of a batch. Points go through in blocks, each in two steps: tiles through the network and back to the encoded
// features, in chunks that each have sums of their own for the decoder; then grid by grid, each by one thread, whose
// points come in their order. So no two threads ever add to one number.
#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "passes.h"
#include "thread_pool.h"
#include "tiles.h"

namespace apm {
namespace {

constexpr int CHUNKS = 16;             // of a block: the decoder's sums
constexpr size_t BLOCK_FLOATS = 1 << 22;  // of encoded slopes that are kept
constexpr int PIECES = 16;  // a model of few grids cuts the points of each into so many pieces, together,
constexpr size_t PIECE_FLOATS = 1 << 24;  // as far as their sums fit into this

struct KeptTile {
  Tile tile;
  std::vector<int32_t> row;  // [slot]
};

class Pass {
 public:
  Pass(Prepared& model, const float* points, int64_t n, const Objective& objective, const ApmGradients& gradients)
      : model_(model), plan_(model.plan), points_(points), n_(n), objective_(objective), wanted_(gradients),
        order_(sorted_order(points, n)) {
    const int64_t tiles = (n + TILE - 1) / TILE;
    const size_t tile_floats = static_cast<size_t>(plan_.columns) * TILE;
    block_tiles_ = static_cast<int>(std::clamp<int64_t>(BLOCK_FLOATS / tile_floats, 1, std::max<int64_t>(tiles, 1)));
    chunk_tiles_ = (block_tiles_ + CHUNKS - 1) / CHUNKS;
    kept_.resize(block_tiles_);
    for (KeptTile& kept : kept_) kept.row.resize(plan_.slot_count);
    const size_t affordable = PIECE_FLOATS / std::max<size_t>(model.packed_floats, 1);
    pieces_ = static_cast<int>(std::clamp<size_t>(PIECES / std::max(plan_.slot_count, 1), 1, std::max<size_t>(affordable, 1)));
    chunk_count_ = std::max(1, (std::min<int>(block_tiles_, static_cast<int>(tiles)) + chunk_tiles_ - 1) / chunk_tiles_);
    prepare_memory(tile_floats);
  }

  void run() {
    const int64_t tiles = (n_ + TILE - 1) / TILE;
    for (int64_t block = 0; block < tiles; block += block_tiles_) {
      const int count = static_cast<int>(std::min<int64_t>(block_tiles_, tiles - block));
      parallel((count + chunk_tiles_ - 1) / chunk_tiles_, plan_.threads, [&](int chunk, int thread) {
        const int stop = std::min((chunk + 1) * chunk_tiles_, count);
        for (int t = chunk * chunk_tiles_; t < stop; ++t) through(block, t, chunk, thread);
      });
      if (wanted_.features || wanted_.transforms)
        parallel(plan_.slot_count * pieces_, plan_.threads, [&](int item, int) { add_grid(item % plan_.slot_count, item / plan_.slot_count, count); });
    }
    write_grids();
    if (wanted_.weights) write_decoder();
  }

 private:
  // Sums start at zero, in memory that is kept for the next batch.
  void prepare_memory(size_t tile_floats) {
    model_.open_spaces();
    memory_.slopes.reserve(block_tiles_ * tile_floats);
    const auto zeroed = [](Buffer<float>& buffer, size_t count) {
      buffer.reserve(count);
      std::fill_n(buffer.data(), count, 0.0f);
    };
    if (wanted_.features) zeroed(memory_.feature_sums, model_.packed_floats * pieces_);
    if (wanted_.transforms) zeroed(memory_.transform_sums, static_cast<size_t>(plan_.slot_count) * pieces_ * 12);
    if (!wanted_.weights) return;
    while (static_cast<int>(memory_.chunks.size()) < chunk_count_) memory_.chunks.push_back(std::make_unique<ChunkSums>(plan_));
    for (int c = 0; c < chunk_count_; ++c) std::fill_n(memory_.chunks[c]->data(), ChunkSums::floats(plan_), 0.0f);
  }

  float* slopes_of(int t) { return memory_.slopes.data() + static_cast<size_t>(t) * plan_.columns * TILE; }

  // A tile to its values and back to the slopes of its encoded features.
  void through(int64_t block, int t, int chunk, int thread) {
    Scratch& scratch = model_.space(thread).scratch;
    KeptTile& kept = kept_[t];
    const int64_t first = (block + t) * TILE;
    fill_tile(kept.tile, points_, order_.data(), first, n_);
    model_.kernels.encode(plan_, kept.tile, scratch.encoded);
    scratch.keep_hidden = true;
    scratch.encoded_slopes = slopes_of(t);  // straight to where they are kept
    float* values = model_.space(thread).values;
    model_.kernels.decode(plan_, scratch, values);
    follow(order_.data() + first, kept.tile.count, values);
    model_.kernels.decode_backward(plan_, scratch, values, wanted_.weights ? &memory_.chunks[chunk]->sums : nullptr);
    std::memcpy(kept.row.data(), scratch.encoded.row, sizeof(int32_t) * plan_.slot_count);
  }

  // Values of a tile, in place, to the objective's slopes.
  void follow(const int32_t* order, int count, float* values) {
    const int outputs = plan_.outputs;
    const float factor = 2.0f / (static_cast<float>(n_) * static_cast<float>(outputs));
    for (int i = 0; i < TILE; ++i) {
      if (i >= count) {
        for (int o = 0; o < outputs; ++o) values[o * TILE + i] = 0.0f;
        continue;
      }
      const int64_t p = order[i];
      float squares = 0.0f;
      for (int o = 0; o < outputs; ++o) {
        float& value = values[static_cast<size_t>(o) * TILE + i];
        const float difference = value - objective_.targets[p * outputs + o];
        squares += difference * difference;
        value = difference * factor * objective_.weights[p];
      }
      objective_.squared_error[p] = squares / static_cast<float>(outputs);
    }
  }

  // The tiles of one piece of the block, into one grid.
  void add_grid(int s, int piece, int count) {
    const Slot& slot = plan_.slots[s];
    const SlotGradients sums = {
        wanted_.features ? memory_.feature_sums.data() + piece * model_.packed_floats + slot.packed : nullptr,
        wanted_.transforms ? memory_.transform_sums.data() + (static_cast<size_t>(piece) * plan_.slot_count + s) * 12 : nullptr,
        nullptr};
    const int each = (block_tiles_ + pieces_ - 1) / pieces_;
    for (int t = piece * each; t < std::min((piece + 1) * each, count); ++t)
      if (kept_[t].row[s] >= 0)
        model_.kernels.slot_backward(plan_, slot, kept_[t].tile, slopes_of(t) + static_cast<size_t>(kept_[t].row[s]) * TILE, sums);
  }

  void write_grids() {
    if (wanted_.features)
      parallel(plan_.slot_count, plan_.threads, [&](int s, int) {
        const Slot& slot = plan_.slots[s];
        const size_t stop = s + 1 < plan_.slot_count ? plan_.slots[s + 1].packed : model_.packed_floats;
        float* sums = memory_.feature_sums.data();
        for (int piece = 1; piece < pieces_; ++piece)
          for (size_t i = slot.packed; i < stop; ++i) sums[i] += sums[piece * model_.packed_floats + i];
        model_.unpack(slot, sums, wanted_.features);
      });
    if (!wanted_.transforms) return;
    std::fill_n(wanted_.transforms, 12 * static_cast<size_t>(model_.transform_count), 0.0f);
    for (int piece = 0; piece < pieces_; ++piece)
      for (int s = 0; s < plan_.slot_count; ++s)
        for (int k = 0; k < 12 && plan_.slots[s].transform >= 0; ++k)
          wanted_.transforms[12 * plan_.slots[s].transform + k] += memory_.transform_sums.data()[(static_cast<size_t>(piece) * plan_.slot_count + s) * 12 + k];
  }

  void write_decoder() {
    const size_t floats = ChunkSums::floats(plan_);
    float* sums = memory_.chunks[0]->data();
    for (int c = 1; c < chunk_count_; ++c) {
      const float* more = memory_.chunks[c]->data();
      for (size_t i = 0; i < floats; ++i) sums[i] += more[i];
    }
    const DecoderSums& total = memory_.chunks[0]->sums;
    for (int l = 0; l < plan_.layer_count; ++l) {
      turn(total.weights[l], plan_.layers[l].in, plan_.layers[l].out, wanted_.weights[l]);
      if (plan_.layers[l].bias && wanted_.biases[l]) std::copy_n(total.biases[l], plan_.layers[l].out, wanted_.biases[l]);
    }
    if (plan_.skip && wanted_.skip) turn(total.skip, plan_.columns, plan_.outputs, wanted_.skip);
  }

  static void turn(const float* from, int in, int out, float* to) {
    for (int m = 0; m < out; ++m)
      for (int k = 0; k < in; ++k) to[static_cast<size_t>(m) * in + k] = from[static_cast<size_t>(k) * out + m];
  }

  Prepared& model_;
  PassMemory& memory_ = model_.memory;
  const Plan& plan_;
  const float* points_;
  const int64_t n_;
  const Objective& objective_;
  const ApmGradients& wanted_;
  const std::vector<int32_t> order_;
  int block_tiles_ = 1, chunk_tiles_ = 1, pieces_ = 1, chunk_count_ = 1;
  std::vector<KeptTile> kept_;
};

}  // namespace

void find_gradients(Prepared& model, const float* points, int64_t n, const Objective& objective,
                    const ApmGradients& gradients) {
  Pass(model, points, n, objective, gradients).run();
}

}  // namespace apm
