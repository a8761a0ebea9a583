// The nodes around a position, their weights, and what these change by the position. Padding needs no branch: the first tap
// is held to a node that exists, and the weights, functions of the distance to their nodes, vanish by themselves.
#pragma once

namespace {

using namespace apm;

// The taps along one axis: index of the first, weight of each, and what the weights change by a local coordinate.
template <int TAPS>
struct Taps {
  V weight[TAPS], change[TAPS];
  I first;
};

template <int TAPS, bool CHANGE>
inline Taps<TAPS> find_taps(const Slot& slot, int axis, V local) {
  Taps<TAPS> taps;
  const V one = all(1.0f), none = zero();
  if (slot.resolution[axis] == 1) {
    taps.first = whole(none);
    for (int k = 0; k < TAPS; ++k) {
      taps.weight[k] = k ? none : one;
      if (CHANGE) taps.change[k] = none;
    }
    return taps;
  }
  const bool lattice = slot.transform < 0;
  const V held = lattice ? least(most(local, all(-1.0f)), one) : local;
  const V node = fma(held, all(slot.scale[axis]), all(slot.shift[axis]));
  const float last = static_cast<float>(slot.nodes[axis] - TAPS);
  if constexpr (TAPS == 2) {
    const V first = least(most(floor_of(node), none), all(last));
    const V t = node - first;
    taps.first = whole(first);
    taps.weight[0] = most(one - magnitude(t), none);
    taps.weight[1] = most(one - magnitude(t - one), none);
    if (CHANGE) {  // as `grid_sample` has it: the slope to the right of a node, none where a lattice is held
      const Mask left = less(t, none), right = less(t, one);
      const V scale = all(slot.scale[axis]);
      V low = where(left, scale, where(right, none - scale, none)), high = where(left, none, where(right, scale, none - scale));
      if (lattice) {
        const Mask free = both(less(none, node), less(node, all(last + 1.0f)));
        low = where(free, low, none);
        high = where(free, high, none);
      }
      taps.change[0] = low;
      taps.change[1] = high;
    }
  } else {
    const V first = least(most(nearest(node) - one, none), all(last));
    taps.first = whole(first);
    const Mask moved = not_equal(held, local);
    for (int k = 0; k < 3; ++k) {  // w(t) = max(0, 3/2 - |t|)^2 / 2 - 3/2 max(0, 1/2 - |t|)^2, the quadratic B-spline
      const V t = node - (first + all(static_cast<float>(k)));
      const V outer = most(all(1.5f) - magnitude(t), none), inner = most(all(0.5f) - magnitude(t), none);
      taps.weight[k] = all(0.5f) * outer * outer - all(1.5f) * inner * inner;
      if (CHANGE) {
        const V slope = (all(3.0f) * inner - outer) * all(slot.scale[axis]);
        taps.change[k] = where(moved, none, where(less(t, none), none - slope, slope));
      }
    }
  }
  return taps;
}

}  // namespace
