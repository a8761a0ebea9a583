// Blocks of whole numbers, predicted from coarse to fine: quantised, written and read. Readable twins:
// `apmgsrn_core/residual/interpolation.py`, `block_coding.py`. The bytes are the same, for all of it is computed in whole
// numbers.
#include <algorithm>
#include <cstdlib>
#include <new>
#include <vector>

#include "interface.h"
#include "lane_coding.h"

namespace {

using apm::Reader;
using apm::Writer;

// As in interpolation.py and block_coding.py.
constexpr int64_t STEP = 1024, LARGEST = 1 << 25, FINEST_COST = 1 << 13, ROUGH = 10;
constexpr int PHASES = 7, CHOICES = 6, CHOSEN_LEVELS = 3, CELL = 8, FIRST_CLASS = 16;
constexpr int ODD[PHASES][3] = {{1, 0, 0}, {0, 1, 0}, {0, 0, 1}, {1, 1, 0}, {1, 0, 1}, {0, 1, 1}, {1, 1, 1}};
constexpr int64_t WEIGHTS[CHOICES][2] = {{72, -8}, {64, 0}, {48, 0}, {32, 0}, {16, 0}, {0, 0}};
constexpr int64_t SAY[3] = {8, 3, 2}, COARSE_SAY[3] = {4, 1, 1};
constexpr int64_t CHOICE_CLASS = apm::MAGNITUDES, FLAG_CLASS = CHOICE_CLASS + 1;

int64_t floor_divided(int64_t number, int64_t by) { return number / by - (number % by < 0); }
int64_t steps_of(int64_t distance) { return floor_divided(distance + STEP / 2, STEP); }

int64_t cost_of(int64_t distance) {
  const uint64_t sixteenths = std::min<int64_t>(std::abs(distance) * 16 / STEP, FINEST_COST - 8) + 8;
  return apm::bit_length(sixteenths * sixteenths * sixteenths * sixteenths);
}

struct Nearby {
  int64_t near = 0, far = 0, rough = 0;
};

// The points of a block; strides along z, y, x.
class Block {
 public:
  explicit Block(const int64_t* nodes)
      : nodes_{nodes[0], nodes[1], nodes[2]}, strides_{nodes[1] * nodes[2], nodes[2], 1} {}

  int64_t size() const { return nodes_[0] * strides_[0]; }
  int levels() const { return apm::bit_length(std::max({nodes_[0], nodes_[1], nodes_[2]}) - 1); }

  // visit(point, index) at all points of a phase, x fastest.
  template <class Visit>
  void over(int level, int phase, const Visit& visit) const {
    const int64_t step = int64_t{2} << level;
    int64_t at[3];
    for (at[0] = int64_t{ODD[phase][0]} << level; at[0] < nodes_[0]; at[0] += step)
      for (at[1] = int64_t{ODD[phase][1]} << level; at[1] < nodes_[1]; at[1] += step)
        for (at[2] = int64_t{ODD[phase][2]} << level; at[2] < nodes_[2]; at[2] += step)
          visit(at, at[0] * strides_[0] + at[1] * strides_[1] + at[2]);
  }

  Nearby nearby(const int64_t* known, int level, int phase, const int64_t* at, int64_t point) const {
    Nearby found;
    for (int a = 0; a < 3; ++a) {
      if (!ODD[phase][a]) continue;
      const int64_t s = int64_t{1} << level, stride = strides_[a] << level;
      const int64_t low = known[point - stride], high = at[a] + s < nodes_[a] ? known[point + stride] : low;
      const bool wide = at[a] >= 3 * s && at[a] + 3 * s < nodes_[a];
      found.near += low + high;
      found.far += wide ? known[point - 3 * stride] + known[point + 3 * stride] : low + high;
      found.rough += std::abs(low - high);
    }
    return found;
  }

  const int64_t* nodes() const { return nodes_; }
  const int64_t* strides() const { return strides_; }

 private:
  int64_t nodes_[3], strides_[3];
};

int axes_of(int phase) { return ODD[phase][0] + ODD[phase][1] + ODD[phase][2]; }

int64_t predicted(const Nearby& nearby, int count, int64_t choice) {
  const int64_t sum = WEIGHTS[choice][0] * nearby.near + WEIGHTS[choice][1] * nearby.far;
  return floor_divided(sum + 64 * count, 128 * count);
}

// The sizes around the points of a phase that are known when it is coded.
class Around {
 public:
  Around(const Block& block, int level, int phase) : block_(block), count_(axes_of(phase)) {
    for (int z = -1; z <= 1; ++z)
      for (int y = -1; y <= 1; ++y)
        for (int x = -1; x <= 1; ++x) add({z, y, x}, level, phase);
  }

  int64_t expected(const int64_t* numbers, const Nearby& nearby, const int64_t* at, int64_t point) const {
    int64_t total = 0;
    for (const Neighbour& n : neighbours_) {
      bool there = true;
      for (int a = 0; a < 3; ++a) there &= at[a] + n.offset[a] >= 0 && at[a] + n.offset[a] < block_.nodes()[a];
      if (there) total += n.weight * std::abs(numbers[point + n.distance]);
    }
    return 64 * total / weights_ + ROUGH * nearby.rough / (STEP * count_);
  }

 private:
  struct Neighbour {
    int64_t offset[3], distance, weight;
  };

  static int order(const int* odd) {  // of a phase; -1: of the level above
    for (int p = 0; p < PHASES; ++p)
      if (std::equal(odd, odd + 3, ODD[p])) return p;
    return -1;
  }

  void add(const int (&offset)[3], int level, int phase) {
    const int away = std::abs(offset[0]) + std::abs(offset[1]) + std::abs(offset[2]);
    int odd[3];
    for (int a = 0; a < 3; ++a) odd[a] = (ODD[phase][a] + offset[a]) & 1;
    const int earlier = order(odd);
    if (!away || earlier >= phase) return;
    Neighbour n{{}, 0, (earlier < 0 ? COARSE_SAY : SAY)[away - 1]};
    for (int a = 0; a < 3; ++a) {
      n.offset[a] = offset[a] * (int64_t{1} << level);
      n.distance += n.offset[a] * block_.strides()[a];
    }
    neighbours_.push_back(n);
    weights_ += n.weight;
  }

  const Block& block_;
  const int count_;
  int64_t weights_ = 0;
  std::vector<Neighbour> neighbours_;
};

// Codes a block by rows of a Writer or a Reader.
template <class Coder>
class Walk {
 public:
  Walk(const Block& block, int64_t lanes, Coder& coder, const ApmBlock& given)
      : block_(block), lanes_(lanes), coder_(coder), given_(given), coded_(block.size()) {}

  int run() {
    if (const int status = choices()) return status;
    int64_t first = FIRST_CLASS;
    if (const int status = rows(&first, 1, given_.numbers)) return status;
    given_.known[0] = given_.numbers[0] * STEP;
    if (const int status = cells()) return status;
    for (int level = block_.levels() - 1; level >= 0; --level)
      for (int phase = 0; phase < PHASES; ++phase)
        if (const int status = one_phase(level, phase)) return status;
    return APM_DONE;
  }

 private:
  static constexpr bool writes = std::is_same_v<Coder, Writer>;

  int rows(const int64_t* classes, int64_t count, int64_t* numbers) {
    for (int64_t first = 0; first < count; first += lanes_) {
      const int64_t some = std::min(lanes_, count - first);
      if (const int status = coder_.row(classes + first, some, numbers + first)) return status;
      *given_.rows++ = static_cast<int32_t>(some);
    }
    return APM_DONE;
  }

  int choices() {
    int64_t classes[PHASES];
    std::fill_n(classes, PHASES, CHOICE_CLASS);
    for (int level = 0; level < CHOSEN_LEVELS; ++level)
      if (const int status = rows(classes, PHASES, given_.choices + level * PHASES)) return status;
    const auto known = [](int64_t c) { return c >= 0 && c < CHOICES; };
    return std::all_of(given_.choices, given_.choices + CHOSEN_LEVELS * PHASES, known) ? APM_DONE : APM_TOO_LARGE;
  }

  // Which points are in cells with a number that is not 0.
  int cells() {
    const int64_t* nodes = block_.nodes();
    const int64_t ny = (nodes[1] + CELL - 1) / CELL, nx = (nodes[2] + CELL - 1) / CELL;
    std::vector<int64_t> flags(ny * nx), below(ny * nx), classes(ny * nx);
    for (int64_t z = 0; z < nodes[0]; z += CELL) {
      const int64_t top = std::min(z + CELL, nodes[0]);
      if (writes) {
        std::fill(flags.begin(), flags.end(), 0);
        over_layer(z, top, [&](int64_t point, int64_t cell) { flags[cell] |= given_.numbers[point] != 0; }, nx);
      }
      for (int64_t c = 0; c < ny * nx; ++c) classes[c] = FLAG_CLASS + below[c];
      if (const int status = rows(classes.data(), ny * nx, flags.data())) return status;
      for (int64_t flag : flags)
        if (flag < 0 || flag > 1) return APM_TOO_LARGE;
      over_layer(z, top, [&](int64_t point, int64_t cell) { coded_[point] = flags[cell] != 0; }, nx);
      below = flags;
    }
    return APM_DONE;
  }

  template <class Visit>
  void over_layer(int64_t z, int64_t top, const Visit& visit, int64_t nx) {
    const int64_t* nodes = block_.nodes();
    int64_t point = z * block_.strides()[0];
    for (; z < top; ++z)
      for (int64_t y = 0; y < nodes[1]; ++y)
        for (int64_t x = 0; x < nodes[2]; ++x) visit(point++, y / CELL * nx + x / CELL);
  }

  int one_phase(int level, int phase) {
    const Around around(block_, level, phase);
    const int count = axes_of(phase);
    const int64_t choice = level < CHOSEN_LEVELS ? given_.choices[level * PHASES + phase] : 0;
    classes_.clear(), points_.clear();
    block_.over(level, phase, [&](const int64_t* at, int64_t point) {
      const Nearby nearby = block_.nearby(given_.known, level, phase, at, point);
      given_.known[point] = predicted(nearby, count, choice);
      if (!coded_[point]) return;
      points_.push_back(point);
      classes_.push_back(apm::class_of(around.expected(given_.numbers, nearby, at, point)));
    });
    numbers_.resize(points_.size());
    if (writes)
      for (size_t i = 0; i < points_.size(); ++i) numbers_[i] = given_.numbers[points_[i]];
    if (const int status = rows(classes_.data(), static_cast<int64_t>(points_.size()), numbers_.data())) return status;
    for (size_t i = 0; i < points_.size(); ++i) {
      given_.numbers[points_[i]] = numbers_[i];
      given_.known[points_[i]] += numbers_[i] * STEP;
    }
    bool small = true;
    block_.over(level, phase, [&](const int64_t*, int64_t point) {
      small &= std::abs(given_.known[point]) <= 2 * LARGEST * STEP;
    });
    return small ? APM_DONE : APM_TOO_LARGE;
  }

  const Block& block_;
  const int64_t lanes_;
  Coder& coder_;
  ApmBlock given_;
  std::vector<uint8_t> coded_;
  std::vector<int64_t> classes_, points_, numbers_;
};

int64_t best_choice(const Block& block, const ApmBlock& given, const int64_t* values, const uint8_t* free, int level,
                    int phase) {
  int64_t costs[CHOICES] = {};
  block.over(level, phase, [&](const int64_t* at, int64_t point) {
    if (free && free[point]) return;
    const Nearby nearby = block.nearby(given.known, level, phase, at, point);
    for (int c = 0; c < CHOICES; ++c) costs[c] += cost_of(values[point] - predicted(nearby, axes_of(phase), c));
  });
  return std::min_element(costs, costs + CHOICES) - costs;
}

}  // namespace

extern "C" void apm_quantise_block(const ApmBlock* given, const int64_t* values, const uint8_t* free) {
  const Block block(given->nodes);
  given->numbers[0] = free && free[0] ? 0 : steps_of(values[0]);
  given->known[0] = given->numbers[0] * STEP;
  std::fill_n(given->choices, CHOSEN_LEVELS * PHASES, 0);
  for (int level = block.levels() - 1; level >= 0; --level)
    for (int phase = 0; phase < PHASES; ++phase) {
      int64_t choice = 0;
      if (level < CHOSEN_LEVELS)
        choice = given->choices[level * PHASES + phase] = best_choice(block, *given, values, free, level, phase);
      block.over(level, phase, [&](const int64_t* at, int64_t point) {
        const int64_t guess = predicted(block.nearby(given->known, level, phase, at, point), axes_of(phase), choice);
        given->numbers[point] = free && free[point] ? 0 : steps_of(values[point] - guess);
        given->known[point] = guess + given->numbers[point] * STEP;
      });
    }
}

extern "C" int apm_code_block(ApmLanes* lanes, int64_t count, const ApmBlock* given) try {
  const Block block(given->nodes);
  if (lanes->slots) {
    Writer writer(lanes);
    return Walk<Writer>(block, count, writer, *given).run();
  }
  std::fill_n(given->numbers, block.size(), 0);
  std::fill_n(given->known, block.size(), 0);
  Reader reader(lanes);
  return Walk<Reader>(block, count, reader, *given).run();
} catch (const std::bad_alloc&) {
  return APM_NO_MEMORY;
}

extern "C" int64_t apm_words_of_rows(const uint32_t* slots, const int32_t* rows, int64_t count, int64_t* states,
                                     uint16_t* words) {
  int64_t at = 0;
  for (int64_t r = 0; r < count; ++r) at += rows[r];
  uint16_t *const end = words + at, *word = end;
  for (int64_t r = count; r-- > 0;) {
    at -= rows[r];
    word -= apm_words_of(slots + at, 1, rows[r], states, word - rows[r]);
  }
  return end - word;
}
