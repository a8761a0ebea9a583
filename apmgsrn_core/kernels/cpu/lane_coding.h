// Entropy coding of whole numbers in lanes: the frequencies that adapt, and rows written and read.
// Readable twin: `apmgsrn_core/file/lane_coding.py`. What is read may be damaged: each read is within its bounds.
#pragma once
#include <algorithm>
#include <cstdlib>
#include <vector>

#include "interface.h"

namespace apm {

// As in lane_coding.py.
constexpr int MAGNITUDES = 28, CLASSES = 31, SMALL = 32, SMALL_BITS = 6, TOKENS = SMALL + 2 * (31 - SMALL_BITS + 1);
constexpr int PRECISION = 14, SEEN = 32;
constexpr int64_t LIMIT = 1 << 30, LOWEST = 1 << 16;

inline int bit_length(uint64_t number) { return number ? 64 - __builtin_clzll(number) : 0; }

inline int64_t class_of(uint64_t magnitude) {
  const uint64_t capped = std::min<uint64_t>(magnitude, 1 << 20);
  return std::clamp(bit_length(capped * capped) - 2, 0, MAGNITUDES - 1);
}

// Division by one number again and again. Of a number below 2^63 the upper half of the product is the quotient or one
// less.
struct Divisor {
  explicit Divisor(uint64_t number) : divisor(number), inverse(~uint64_t{0} / number) {}

  uint64_t quotient(uint64_t number) const {
    const uint64_t least = static_cast<uint64_t>(static_cast<unsigned __int128>(number) * inverse >> 64);
    return least + (number - least * divisor >= divisor);
  }

  uint64_t divisor, inverse;
};

// Adaptive frequencies of the tokens. The bounds of a class are found when it is looked at and has changed.
class Frequencies {
 public:
  explicit Frequencies(int64_t* counts) : counts_(counts) {
    for (int c = 0; c < CLASSES; ++c) {
      totals_[c] = 0;
      for (int t = 0; t < TOKENS; ++t) totals_[c] += counts[c * TOKENS + t];
      changed_[c] = true;
    }
  }

  // TOKENS + 1 bounds in [0, 2^PRECISION].
  const uint16_t* look(int64_t of_class) {
    if (changed_[of_class]) spread(of_class);
    return bounds_[of_class];
  }

  void learn(int64_t of_class, int64_t token) {
    counts_[of_class * TOKENS + token] += SEEN;
    totals_[of_class] += SEEN;
    changed_[of_class] = true;
  }

 private:
  void spread(int64_t of_class) {
    const int64_t* counts = counts_ + of_class * TOKENS;
    const Divisor total(totals_[of_class]);
    uint32_t frequencies[TOKENS], sum = 0;
    int most = 0;
    for (int t = 0; t < TOKENS; ++t) {
      const uint64_t share = static_cast<uint64_t>(counts[t]) * ((1 << PRECISION) - TOKENS);
      sum += frequencies[t] = 1 + static_cast<uint32_t>(total.quotient(share));
      if (frequencies[t] > frequencies[most]) most = t;
    }
    frequencies[most] += (1u << PRECISION) - sum;
    uint16_t* bounds = bounds_[of_class];
    bounds[0] = 0;
    for (int t = 0; t < TOKENS; ++t) bounds[t + 1] = static_cast<uint16_t>(bounds[t] + frequencies[t]);
    changed_[of_class] = false;
  }

  int64_t* counts_;
  int64_t totals_[CLASSES];
  uint16_t bounds_[CLASSES][TOKENS + 1];
  bool changed_[CLASSES];
};

// Appends rows to `slots` and `plain`.
class Writer {
 public:
  explicit Writer(ApmLanes* lanes) : lanes_(*lanes), frequencies_(lanes->counts), slots_(lanes->slots) {}

  int row(const int64_t* classes, int64_t count, const int64_t* numbers) {
    tokens_.resize(count);
    for (int64_t l = 0; l < count; ++l) {
      if (numbers[l] <= -LIMIT || numbers[l] >= LIMIT) return APM_TOO_LARGE;
      const uint32_t value = static_cast<uint32_t>(2 * std::abs(numbers[l]) - (numbers[l] > 0));
      tokens_[l] = static_cast<int32_t>(value);
      if (value >= SMALL) {
        const int bits = bit_length(value);
        tokens_[l] = SMALL + 2 * (bits - SMALL_BITS) + static_cast<int32_t>(value >> (bits - 2) & 1);
        if (!append(value, bits - 2)) return APM_NO_PLAIN_BITS;
      }
      const uint16_t* bound = frequencies_.look(classes[l]) + tokens_[l];
      *slots_++ = bound[0] | static_cast<uint32_t>(bound[1] - bound[0]) << 16;
    }
    for (int64_t l = 0; l < count; ++l) frequencies_.learn(classes[l], tokens_[l]);
    return APM_DONE;
  }

 private:
  // The lowest bits of a value, high ones first.
  bool append(uint32_t value, int bits) {
    if (bits > lanes_.plain_bits - lanes_.bit) return false;
    while (bits > 0) {
      const int room = 8 - static_cast<int>(lanes_.bit & 7), some = std::min(room, bits);
      const uint32_t part = value >> (bits - some) & ((1u << some) - 1);
      lanes_.plain[lanes_.bit >> 3] |= static_cast<uint8_t>(part << (room - some));
      lanes_.bit += some, bits -= some;
    }
    return true;
  }

  ApmLanes& lanes_;
  Frequencies frequencies_;
  uint32_t* slots_;
  std::vector<int32_t> tokens_;
};

// Takes rows from `states`, `words` and `plain`. A state stays below 2^32 whatever it was: frequency * (state >> 14) +
// rest is at most that, and 16 bits are read behind 16.
class Reader {
 public:
  explicit Reader(ApmLanes* lanes) : lanes_(*lanes), frequencies_(lanes->counts) {}

  int row(const int64_t* classes, int64_t count, int64_t* numbers) {
    for (int64_t l = 0; l < count; ++l) {
      const uint16_t* bounds = frequencies_.look(classes[l]);
      int64_t& state = lanes_.states[l];
      const uint16_t slot = static_cast<uint16_t>(state & ((1 << PRECISION) - 1));
      numbers[l] = std::upper_bound(bounds + 1, bounds + TOKENS + 1, slot) - (bounds + 1);
      const uint16_t* bound = bounds + numbers[l];
      state = (bound[1] - bound[0]) * (state >> PRECISION) + slot - bound[0];
      if (state >= LOWEST) continue;
      if (lanes_.word >= lanes_.word_count) return APM_NO_WORDS;
      const uint8_t* word = lanes_.words + 2 * lanes_.word++;
      state = state << 16 | word[0] | word[1] << 8;
    }
    for (int64_t l = 0; l < count; ++l) frequencies_.learn(classes[l], numbers[l]);
    for (int64_t l = 0; l < count; ++l) {
      int64_t value = numbers[l];
      if (value >= SMALL) {
        const int bits = static_cast<int>(value - SMALL) / 2 + SMALL_BITS - 2;
        if (bits > lanes_.plain_bits - lanes_.bit) return APM_NO_PLAIN_BITS;
        value = (2 + (value & 1)) << bits | next(bits);
      }
      numbers[l] = value & 1 ? (value + 1) >> 1 : -(value >> 1);
    }
    return APM_DONE;
  }

 private:
  int64_t next(int bits) {
    const int64_t first = lanes_.bit >> 3, end = (lanes_.bit + bits + 7) >> 3;  // five bytes at most
    uint64_t window = 0;
    for (int64_t at = first; at < end; ++at) window = window << 8 | lanes_.plain[at];
    lanes_.bit += bits;
    return static_cast<int64_t>(window >> (8 * end - lanes_.bit) & ((uint64_t{1} << bits) - 1));
  }

  ApmLanes& lanes_;
  Frequencies frequencies_;
};

}  // namespace apm
