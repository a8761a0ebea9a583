// Coding the whole numbers of a network: the walk over a lattice that predicts them from their neighbours, and the C
// interface. Readable twins: `_code_numbers` in `apmgsrn_core/file/time_coding.py`, `apmgsrn_core/file/lane_coding.py`.
// The bytes are the same, for all of it is computed in whole numbers.
#include <algorithm>
#include <cstdlib>
#include <new>
#include <vector>

#include "interface.h"
#include "lane_coding.h"

namespace {

using apm::Divisor;
using apm::Reader;
using apm::Writer;

constexpr int64_t NUMBER_LIMIT = 1 << 26;  // as in lane_coding.py

// The nodes of a lattice one after the other, x fastest. Sums of sizes stay within 2^58, for a number is at most 2^30
// off what is predicted and there are at most 2^28.
class Walk {
 public:
  Walk(const ApmLattice& lattice, int64_t* numbers)
      : lattice_(lattice), lanes_(lattice.lanes), numbers_(numbers), absent_(lanes_), totals_(lanes_), classes_(lanes_),
        predicted_(lanes_), rest_(lanes_), sizes_(lattice.nodes[1] * lattice.nodes[2] * lanes_) {}

  int write(Writer& writer) {
    return over_nodes([&](const int64_t* row) {
      for (int64_t l = 0; l < lanes_; ++l) {
        if (row[l] <= -NUMBER_LIMIT || row[l] >= NUMBER_LIMIT) return +APM_TOO_LARGE;
        rest_[l] = row[l] - predicted_[l];
      }
      return writer.row(classes_.data(), lanes_, rest_.data());
    });
  }

  int read(Reader& reader) {
    return over_nodes([&](int64_t* row) {
      if (const int status = reader.row(classes_.data(), lanes_, rest_.data())) return status;
      for (int64_t l = 0; l < lanes_; ++l) {
        row[l] = predicted_[l] + rest_[l];
        if (row[l] <= -NUMBER_LIMIT || row[l] >= NUMBER_LIMIT) return +APM_TOO_LARGE;
      }
      return +APM_DONE;
    });
  }

 private:
  template <class CodeRow>
  int over_nodes(const CodeRow& code_row) {
    const int64_t nz = lattice_.nodes[0], ny = lattice_.nodes[1], nx = lattice_.nodes[2];
    int64_t row = 0;
    for (int64_t z = 0; z < nz; ++z)
      for (int64_t y = 0; y < ny; ++y)
        for (int64_t x = 0; x < nx; ++x, ++row) {
          int64_t* sizes = sizes_.data() + (y * nx + x) * lanes_;  // still those of the node at z - 1
          const int64_t* left = x ? sizes - lanes_ : absent_.data();
          const int64_t* before = y ? sizes - nx * lanes_ : absent_.data();
          classify(row, sizes, left, before, 2 + (z > 0) + (y > 0) + (x > 0));
          predict(z, y, x, row);
          if (const int status = code_row(numbers_ + row * lanes_)) return status;
          for (int64_t l = 0; l < lanes_; ++l) {
            sizes[l] = std::abs(rest_[l]);
            totals_[l] += sizes[l];
            total_ += sizes[l];
          }
        }
    return APM_DONE;
  }

  // Classes from the sizes at -z, -x and -y and from the mean of the lane.
  void classify(int64_t row, const int64_t* below, const int64_t* left, const int64_t* before, int there) {
    const uint64_t start = row ? static_cast<uint64_t>(16 * total_ / (lanes_ * row)) : 64;
    const Divisor count(static_cast<uint64_t>(row) + 2), weight(static_cast<uint64_t>(there));
    for (int64_t l = 0; l < lanes_; ++l) {
      const uint64_t mean = count.quotient(static_cast<uint64_t>(16 * totals_[l]) + 2 * start);
      const uint64_t near = static_cast<uint64_t>(16 * (below[l] + left[l] + before[l]));
      classes_[l] = apm::class_of(weight.quotient(near + 2 * mean));
    }
  }

  // From the seven neighbours at -1 along x, y, xy, z, xz, yz, xyz: in 64ths, rounded.
  void predict(int64_t z, int64_t y, int64_t x, int64_t row) {
    const int64_t* near[7];
    for (int i = 0; i < 7; ++i) {
      const int64_t a = (i + 1) >> 2, b = (i + 1) >> 1 & 1, c = (i + 1) & 1;
      const int64_t back = (a * lattice_.nodes[1] + b) * lattice_.nodes[2] + c;
      near[i] = z < a || y < b || x < c ? absent_.data() : numbers_ + (row - back) * lanes_;
    }
    for (int64_t l = 0; l < lanes_; ++l) {
      int64_t sum = 32;
      for (int i = 0; i < 7; ++i) sum += lattice_.weights[i] * near[i][l];
      predicted_[l] = sum >> 6;
    }
  }

  const ApmLattice& lattice_;
  const int64_t lanes_;
  int64_t* const numbers_;
  int64_t total_ = 0;
  const std::vector<int64_t> absent_;  // zeros
  std::vector<int64_t> totals_, classes_, predicted_, rest_;
  std::vector<int64_t> sizes_;  // of a plane of nodes: those that came last
};

bool known(const int64_t* classes, int64_t count) {
  return std::all_of(classes, classes + count, [](int64_t c) { return c >= 0 && c < apm::CLASSES; });
}

}  // namespace

extern "C" int apm_code_row(ApmLanes* lanes, const int64_t* classes, int64_t count, int64_t* numbers) try {
  if (!known(classes, count)) return APM_TOO_LARGE;
  return lanes->slots ? Writer(lanes).row(classes, count, numbers) : Reader(lanes).row(classes, count, numbers);
} catch (const std::bad_alloc&) {
  return APM_NO_MEMORY;
}

extern "C" int apm_code_lattice(ApmLanes* lanes, const ApmLattice* lattice, int64_t* numbers) try {
  Walk walk(*lattice, numbers);
  if (lanes->slots) {
    Writer writer(lanes);
    return walk.write(writer);
  }
  Reader reader(lanes);
  return walk.read(reader);
} catch (const std::bad_alloc&) {
  return APM_NO_MEMORY;
}

extern "C" int64_t apm_words_of(const uint32_t* slots, int64_t rows, int64_t count, int64_t* states, uint16_t* words) {
  uint16_t* const end = words + rows * count;
  uint16_t* word = end;
  for (int64_t at = rows * count; at-- > 0;) {
    int64_t& state = states[at % count];
    const uint32_t first = slots[at] & 0xFFFF, frequency = slots[at] >> 16;
    uint32_t now = static_cast<uint32_t>(state);
    if (now >= static_cast<uint64_t>(frequency) << (32 - apm::PRECISION)) {
      *--word = static_cast<uint16_t>(now & 0xFFFF);
      now >>= 16;
    }
    state = static_cast<int64_t>(static_cast<uint64_t>(now / frequency) << apm::PRECISION) + first + now % frequency;
  }
  return end - word;
}
