// A model in the kernels' own layout, and the memory that passes over it need.
#pragma once
#include <cstdlib>
#include <memory>
#include <mutex>
#include <vector>

#include "plan.h"

namespace apm {

// Memory on a cache line's border, zeroed; std::bad_alloc when there is none.
template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(size_t count, bool zeroed = true);
  T* data() const { return data_.get(); }
  size_t size() const { return count_; }
  // At least so large; what it held is lost when it has to grow.
  void reserve(size_t count) {
    if (count > count_) *this = Buffer(count, false);
  }

 private:
  size_t count_ = 0;
  struct Free {
    void operator()(T* p) const { std::free(p); }
  };
  std::unique_ptr<T[], Free> data_;
};

class Workspace;
class ChunkSums;

// What passes work in, kept from one to the next.
struct PassMemory {
  std::vector<std::unique_ptr<Workspace>> spaces;  // [thread]
  std::vector<std::unique_ptr<ChunkSums>> chunks;
  Buffer<float> slopes, feature_sums, transform_sums;
};

class Prepared {
 public:
  Prepared(const ApmModel& model, const Kernels& kernels, bool fast, int threads);
  ~Prepared();
  void update(const ApmModel& model);
  // Workspaces for all threads, made before they start, so that the caller sees when memory is short.
  Workspace& space(int thread) { return *memory.spaces[thread]; }
  void open_spaces();

  std::mutex in_use;
  PassMemory memory;
  Plan plan{};
  const Kernels& kernels;
  size_t packed_floats = 0;
  int transform_count = 0;
  size_t feature_count = 0;

  // Packed sums of one slot -> the flat features' layout.
  void unpack(const Slot& slot, const float* packed, float* flat) const;

 private:
  void lay_out(const ApmModel& model);
  void pack(const Slot& slot, const float* flat, float* packed) const;
  void fill_boxes();
  void lay_out_decoder(const ApmModel& model);
  void fill_decoder(const ApmModel& model);

  std::vector<Slot> slots_;
  Buffer<float> packed_, transforms_, boxes_, decoder_;
  Buffer<uint16_t> halves_;
};

// What one thread works in.
class Workspace {
 public:
  explicit Workspace(const Plan& plan);
  Scratch scratch{};
  Tile tile;
  float* values;        // [output][TILE]
  float* value_slopes;  // [output][TILE]
  float* slopes;  // [column][TILE], for `scratch.encoded_slopes` where they are not kept elsewhere

 private:
  Buffer<float> floats_;
  Buffer<int32_t> numbers_;
  Buffer<uint16_t> halves_;
};

// Sums over the points of one chunk.
class ChunkSums {
 public:
  explicit ChunkSums(const Plan& plan);
  DecoderSums sums{};
  float* data() const { return floats_.data(); }
  static size_t floats(const Plan& plan);

 private:
  Buffer<float> floats_;
};

}  // namespace apm
