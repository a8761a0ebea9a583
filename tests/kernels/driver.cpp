// Calls every function of the CPU kernels on every path, with buffers of exactly the size that is needed, so that a
// sanitizer or valgrind sees each access out of bounds. Arguments: the paths to run; none for all.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "interface.h"

namespace {

std::mt19937 generator(1);

std::vector<float> random_numbers(size_t count, float scale = 1.0f) {
  std::uniform_real_distribution<float> numbers(-scale, scale);
  std::vector<float> result(count);
  for (float& number : result) number = numbers(generator);
  return result;
}

struct Shape {
  std::vector<ApmGrid> grids;
  std::vector<int32_t> hidden;
  int32_t outputs;
  bool bias, skip;
};

// A network with its numbers, and room for all gradients.
struct Network {
  explicit Network(const Shape& shape) : grids(shape.grids) {
    int32_t columns = 0;
    size_t features_count = 0, transforms_count = 0;
    for (const ApmGrid& grid : grids) {
      columns += grid.features;
      features_count += static_cast<size_t>(grid.resolution[0]) * grid.resolution[1] * grid.resolution[2] * grid.features;
      transforms_count += grid.transform >= 0;
    }
    widths.push_back(columns);
    widths.insert(widths.end(), shape.hidden.begin(), shape.hidden.end());
    widths.push_back(shape.outputs);
    features = random_numbers(features_count);
    transforms = random_numbers(12 * transforms_count, 0.4f);
    for (size_t i = 0; i < transforms.size(); ++i)
      if (i % 12 == 0 || i % 12 == 5 || i % 12 == 10) transforms[i] += 1.7f;
    for (size_t l = 0; l + 1 < widths.size(); ++l) {
      weights.push_back(random_numbers(static_cast<size_t>(widths[l]) * widths[l + 1], 0.3f));
      biases.push_back(random_numbers(shape.bias ? widths[l + 1] : 0));
      weight_slopes.emplace_back(weights[l].size());
      bias_slopes.emplace_back(biases[l].size());
      weight_pointers.push_back(weights[l].data());
      bias_pointers.push_back(shape.bias ? biases[l].data() : nullptr);
      weight_slope_pointers.push_back(weight_slopes[l].data());
      bias_slope_pointers.push_back(shape.bias ? bias_slopes[l].data() : nullptr);
    }
    if (shape.skip) skip = random_numbers(static_cast<size_t>(columns) * shape.outputs), skip_slopes.resize(skip.size());
    feature_slopes.resize(features.size());
    transform_slopes.resize(transforms.size());
    model = {static_cast<int32_t>(grids.size()), static_cast<int32_t>(weights.size()), grids.data(), widths.data(), features.data(),
             transforms.data(), weight_pointers.data(), bias_pointers.data(), shape.skip ? skip.data() : nullptr};
  }

  ApmGradients gradients() {
    return {feature_slopes.data(), transform_slopes.data(), weight_slope_pointers.data(), bias_slope_pointers.data(),
            skip.empty() ? nullptr : skip_slopes.data()};
  }

  std::vector<ApmGrid> grids;
  std::vector<int32_t> widths;
  std::vector<float> features, transforms, skip, feature_slopes, transform_slopes, skip_slopes;
  std::vector<std::vector<float>> weights, biases, weight_slopes, bias_slopes;
  std::vector<const float*> weight_pointers, bias_pointers;
  std::vector<float*> weight_slope_pointers, bias_slope_pointers;
  ApmModel model;
};

void fail(const char* what, const std::string& path) {
  std::printf("FAILED: %s on %s\n", what, path.c_str());
  std::exit(1);
}

void compare(const char* what, const std::string& path, const std::vector<float>& found, std::vector<float>& reference, float tolerance) {
  if (reference.empty()) reference = found;
  float largest = 1e-6f;
  for (float value : reference) largest = std::fmax(largest, std::fabs(value));
  for (size_t i = 0; i < found.size(); ++i)
    if (!(std::fabs(found[i] - reference[i]) <= tolerance * largest)) fail(what, path);
}

int half(const float* points, int64_t n, float* values, float* slopes) {
  for (int64_t i = 0; i < n; ++i) {
    if (values) values[i] = 0.5f * points[3 * i];
    if (slopes) std::copy(points + 3 * i, points + 3 * i + 3, slopes + 3 * i);
  }
  return 0;
}

int stopping(const float*, int64_t, float*, float*) { return 1; }

// Rays through all of the box and past it, of no sample and of many, in every mode.
void run_march(void* prepared, const std::string& path, int32_t outputs) {
  constexpr int64_t N = 1100;
  std::vector<int64_t> rows(N), first(N), steps(N);
  std::vector<float> start = random_numbers(3 * N), along = random_numbers(3 * N, 0.05f), directions = random_numbers(3 * N);
  for (int64_t r = 0; r < N; ++r) rows[r] = N - 1 - r, first[r] = r % 5, steps[r] = r % 90;
  along[0] = along[4] = 0.0f;
  const ApmRays rays = {N, rows.data(), start.data(), along.data(), first.data(), steps.data()};
  std::vector<uint8_t> far(3 * 4 * 5), lengths(far.size(), 1);
  for (size_t c = 0; c < far.size(); ++c) far[c] = c % 3, lengths[c] = 1 << c % 4;
  const std::vector<float> highest(far.size(), 1e9f), table(4 * 16, 0.3f);
  const ApmCells cells = {{5, 4, 3}, far.data(), lengths.data(), highest.data()};
  for (int32_t mode : {APM_COMPOSITE, APM_MAXIMUM, APM_AVERAGE})
    for (bool lit : {false, true}) {
      const ApmLook look = {mode, outputs - 1, {2, 2, 2}, {-1, -1, -1}, {1, 0, 0, 0, 1, 0, 0, 0, 1}, table.data(), 16, -0.1f, 12.0f,
                            0.7f, 0.99f, lit ? directions.data() : nullptr, 0.2f, 0.7f, 0.2f, 10.0f};
      std::vector<float> colour(3 * N), opacity(N), depth(N), sums(mode == APM_AVERAGE ? 3 * N : N);
      const ApmSeen seen = {colour.data(), opacity.data(), depth.data(), sums.data()};
      if (apm_march(prepared, &rays, &cells, &look, &seen) <= 0) fail("march", path);
      ApmLook alone = look;
      alone.column = 0;
      if (apm_march_field(half, 2, &rays, &cells, &alone, &seen) < 0) fail("march of a field", path);
      if (apm_march_field(stopping, 2, &rays, &cells, &alone, &seen) != -2 && mode != APM_COMPOSITE) fail("stopping a march", path);
      float most = 0.0f;
      for (float value : opacity) most = std::fmax(most, value);
      if (mode == APM_COMPOSITE && !(most > 0.3f && most <= 1.0f)) fail("opacities of a march", path);
    }
}

void run_network(const Shape& shape, const std::vector<std::string>& paths, int64_t n) {
  Network network(shape);
  const int64_t outputs = shape.outputs;
  std::vector<float> points = random_numbers(3 * n, 1.3f), targets = random_numbers(n * outputs), weights = random_numbers(n);
  if (n > 2) points[0] = points[1] = points[2] = 1.0f, points[3] = -1.0f, points[4] = 1e9f, points[5] = -1e9f;
  std::vector<float> expected, expected_lattice, expected_slopes, expected_features;
  for (const std::string& path : paths)
    for (int fast = 0; fast < 2; ++fast)
      for (int threads = 1; threads < 4; threads += 2) {
        void* prepared = apm_prepare(&network.model, path.c_str(), fast, threads);
        if (!prepared) fail("prepare", path);
        std::vector<float> values(n * outputs), slopes(3 * n * outputs), error(n);
        const std::vector<float> x = random_numbers(17), y = random_numbers(3), z = random_numbers(5);
        std::vector<float> lattice(17 * 3 * 5 * outputs), none;
        int status = apm_update(prepared, &network.model) | apm_values(prepared, points.data(), n, values.data()) |
                     apm_lattice(prepared, x.data(), 17, y.data(), 3, z.data(), 5, lattice.data()) |
                     apm_derivatives(prepared, points.data(), n, values.data(), slopes.data());
        ApmGradients gradients = network.gradients();
        status |= apm_loss(prepared, points.data(), targets.data(), weights.data(), n, &gradients, error.data());
        const float tolerance = fast ? 0.5f : 1e-3f;
        compare("values", path, values, expected, tolerance);
        compare("gradients of features", path, network.feature_slopes, expected_features, tolerance);
        if (status) fail("a pass", path);
        if (n == 257) run_march(prepared, path, shape.outputs);
        apm_release(prepared);
      }
}

// Two callers at once, of one network: one has the pool, the other computes alone, and both get what one alone gets.
void run_together(const Shape& shape, const std::string& path) {
  constexpr int64_t N = 3000;
  Network network(shape);
  const std::vector<float> points = random_numbers(3 * N);
  void* prepared = apm_prepare(&network.model, path.c_str(), 0, 3);
  if (!prepared) fail("prepare", path);
  std::vector<float> alone(N * shape.outputs), found[2] = {alone, alone};
  int status[2] = {0, 0};
  apm_values(prepared, points.data(), N, alone.data());
  const auto call = [&](int caller) {
    for (int round = 0; round < 50; ++round) status[caller] |= apm_values(prepared, points.data(), N, found[caller].data());
  };
  std::thread other(call, 1);
  call(0);
  other.join();
  apm_release(prepared);
  if (status[0] || status[1] || found[0] != alone || found[1] != alone) fail("two callers at once", path);
}

void run_density(const std::vector<std::string>& paths, int64_t n) {
  Network network({{{{8, 8, 8}, 2, 0, 0}, {{8, 8, 8}, 2, 0, 1}, {{8, 8, 8}, 2, 0, 2}}, {}, 1, false, false});
  const std::vector<float> points = random_numbers(3 * n), error(n, 0.5f);
  std::vector<float> expected;
  for (const std::string& path : paths) {
    std::vector<float> slopes(36);
    double loss = 0;
    if (apm_density(network.transforms.data(), 3, points.data(), error.data(), n, path.c_str(), 2, slopes.data(), &loss)) fail("density", path);
    compare("density", path, slopes, expected, 1e-3f);
  }
}

template <class T>
void run_draw(int32_t type, int32_t continuous) {
  constexpr int64_t NX = 7, NY = 3, NZ = 1, N = 1000;
  std::vector<T> values(NX * NY * NZ * 2, T(3));
  const int64_t size = sizeof(T);
  const ApmArray array = {values.data(), type, 2, {NX, NY, NZ}, {2 * size, 2 * NX * size, 2 * NX * NY * size, size}, 0.0, 3.0};
  std::vector<double> unit(3 * N), picks(400), probability(4 * 3 * 1, 1.0 / 12), cumulative(12);
  std::uniform_real_distribution<double> numbers(0.0, 1.0);
  for (double& u : unit) u = numbers(generator);
  for (double& p : picks) p = numbers(generator);
  for (int b = 0; b < 12; ++b) cumulative[b] = (b + 1) / 12.0;
  const ApmDraw draw = {{4, 3, 1}, continuous, 400, picks.data(), cumulative.data(), probability.data()};
  std::vector<float> points(3 * N), targets(2 * N), weights(N);
  std::vector<int64_t> blocks(N);
  apm_draw(&array, &draw, unit.data(), N, points.data(), targets.data(), weights.data(), blocks.data(), 2);
  for (float target : targets)
    if (std::fabs(target - 1.0f) > 1e-6f) fail("draw", std::to_string(type));
}

// What coding a lattice gave, in buffers without room to spare.
struct Coded {
  std::vector<int64_t> states;
  std::vector<uint8_t> words, plain;
  int64_t plain_bits;
};

std::vector<int64_t> equal_counts() { return std::vector<int64_t>(31 * 84, 6); }

Coded write_numbers(const ApmLattice& lattice, std::vector<int64_t> numbers) {
  std::vector<int64_t> counts = equal_counts();
  std::vector<uint32_t> slots(numbers.size());
  Coded coded = {std::vector<int64_t>(lattice.lanes, 1 << 16), {}, std::vector<uint8_t>((29 * numbers.size() + 7) / 8), 0};
  ApmLanes lanes = {counts.data(), slots.data(), nullptr, nullptr, 0, 0, coded.plain.data(), 8 * static_cast<int64_t>(coded.plain.size()), 0};
  if (apm_code_lattice(&lanes, &lattice, numbers.data())) fail("writing numbers", "all");
  std::vector<uint16_t> words(numbers.size());
  const int64_t rows = static_cast<int64_t>(numbers.size()) / lattice.lanes;
  const int64_t count = apm_words_of(slots.data(), rows, lattice.lanes, coded.states.data(), words.data());
  for (auto word = words.end() - count; word != words.end(); ++word) coded.words.push_back(*word & 255), coded.words.push_back(*word >> 8);
  coded.plain.resize((lanes.bit + 7) / 8);
  coded.plain.shrink_to_fit(), coded.words.shrink_to_fit();
  coded.plain_bits = 8 * static_cast<int64_t>(coded.plain.size());
  return coded;
}

int read_numbers(const ApmLattice& lattice, Coded coded, std::vector<int64_t>& numbers) {
  std::vector<int64_t> counts = equal_counts();
  ApmLanes lanes = {counts.data(), nullptr, coded.states.data(), coded.words.data(), static_cast<int64_t>(coded.words.size()) / 2, 0,
                    coded.plain.data(), coded.plain_bits, 0};
  return apm_code_lattice(&lanes, &lattice, numbers.data());
}

// There and back, and damaged: any words, states, weights and lengths.
void run_numbers(const ApmLattice& lattice, int64_t largest) {
  std::vector<int64_t> numbers(lattice.nodes[0] * lattice.nodes[1] * lattice.nodes[2] * lattice.lanes), found(numbers.size());
  for (int64_t& number : numbers) number = static_cast<int64_t>(generator() % (2 * largest + 1)) - largest;
  const Coded coded = write_numbers(lattice, numbers);
  if (read_numbers(lattice, coded, found) || found != numbers) fail("numbers", "all");
  for (int trial = 0; trial < 200; ++trial) {
    Coded bad = coded;
    ApmLattice other = lattice;
    for (int64_t& state : bad.states) state = trial % 3 ? state : generator();
    for (int8_t& weight : other.weights) weight = trial % 2 ? weight : static_cast<int8_t>(generator());
    if (!bad.words.empty()) bad.words[generator() % bad.words.size()] ^= 1 << generator() % 8;
    if (trial % 5 == 0) bad.words.resize(bad.words.size() / 4 * 2), bad.words.shrink_to_fit();
    if (trial % 7 == 0) bad.plain.resize(bad.plain.size() / 2), bad.plain.shrink_to_fit();
    bad.plain_bits = 8 * static_cast<int64_t>(bad.plain.size());
    const int status = read_numbers(other, bad, found);
    if (status < APM_DONE || status > APM_TOO_LARGE) fail("damaged numbers", "all");
  }
  numbers.back() = INT64_MIN;
  std::vector<int64_t> counts = equal_counts();
  std::vector<uint32_t> slots(numbers.size());
  std::vector<uint8_t> plain(4 * numbers.size());
  ApmLanes lanes = {counts.data(), slots.data(), nullptr, nullptr, 0, 0, plain.data(), 8 * static_cast<int64_t>(plain.size()), 0};
  if (apm_code_lattice(&lanes, &lattice, numbers.data()) != APM_TOO_LARGE) fail("numbers too large", "all");
}

// A block there and back, with and without values that are free, and damaged.
void run_block(int64_t nz, int64_t ny, int64_t nx, int64_t lane_count, int64_t largest) {
  const int64_t size = nz * ny * nx;
  std::vector<int64_t> values(size), choices(21), numbers(size), known(size), decoded(size);
  std::vector<int32_t> rows(2 * size + 64);
  std::vector<uint8_t> free(size);
  for (int64_t i = 0; i < size; ++i) {
    values[i] = static_cast<int64_t>(generator() % (2 * largest + 1)) - largest;
    free[i] = lane_count > 4 && generator() % 3 == 0;
  }
  const ApmBlock block = {{nz, ny, nx}, choices.data(), numbers.data(), known.data(), rows.data()};
  apm_quantise_block(&block, values.data(), lane_count > 4 ? free.data() : nullptr);
  for (int64_t i = 0; i < size; ++i)
    if (!free[i] && std::abs(known[i] - values[i]) > 512) fail("a quantised block", "all");
  const std::vector<int64_t> wanted = known;
  const size_t room = 2 * size + 64;
  std::vector<int64_t> counts = equal_counts(), states(lane_count, 1 << 16);
  std::vector<uint32_t> slots(room);
  std::vector<uint8_t> plain(29 * room / 8 + 1);
  ApmLanes lanes = {counts.data(), slots.data(), nullptr, nullptr, 0, 0, plain.data(), 8 * static_cast<int64_t>(plain.size()), 0};
  if (apm_code_block(&lanes, lane_count, &block)) fail("writing a block", "all");
  int64_t row_count = 0, total = 0;
  while (row_count < static_cast<int64_t>(rows.size()) && rows[row_count]) total += rows[row_count++];
  std::vector<uint16_t> words(total);
  const int64_t count = apm_words_of_rows(slots.data(), rows.data(), row_count, states.data(), words.data());
  std::vector<uint8_t> bytes;
  for (auto word = words.end() - count; word != words.end(); ++word) bytes.push_back(*word & 255), bytes.push_back(*word >> 8);
  plain.resize((lanes.bit + 7) / 8), plain.shrink_to_fit(), bytes.shrink_to_fit();
  for (int trial = 0; trial < 30; ++trial) {
    std::vector<int64_t> bad_states = states;
    std::vector<uint8_t> bad = bytes;
    counts = equal_counts();
    if (trial && !bad.empty()) bad[generator() % bad.size()] ^= 1 << generator() % 8;
    if (trial % 5 == 4) bad.resize(bad.size() / 4 * 2), bad.shrink_to_fit();
    if (trial % 3 == 2) bad_states[0] = generator();
    const ApmBlock read = {{nz, ny, nx}, choices.data(), numbers.data(), decoded.data(), rows.data()};
    lanes = {counts.data(), nullptr, bad_states.data(), bad.data(), static_cast<int64_t>(bad.size()) / 2, 0,
             plain.data(), 8 * static_cast<int64_t>(plain.size()), 0};
    const int status = apm_code_block(&lanes, lane_count, &read);
    if (status < APM_DONE || status > APM_TOO_LARGE) fail("a damaged block", "all");
    if (!trial && (status || decoded != wanted)) fail("reading a block", "all");
  }
}

void run_rows() {
  std::vector<int64_t> counts = equal_counts(), numbers = {(1 << 30) - 1, 1 - (1 << 30), 0}, classes = {0, 27, 13}, states(3, 1 << 16);
  std::vector<uint32_t> slots(3);
  std::vector<uint8_t> plain(8), none;
  const ApmLanes start = {counts.data(), slots.data(), nullptr, nullptr, 0, 0, plain.data(), 64, 0};
  ApmLanes lanes = start;
  if (apm_code_row(&lanes, classes.data(), 3, numbers.data()) || lanes.bit != 58) fail("a row", "all");
  lanes = start, lanes.plain_bits = 57;
  if (apm_code_row(&lanes, classes.data(), 3, numbers.data()) != APM_NO_PLAIN_BITS) fail("a row without room", "all");
  lanes = {counts.data(), nullptr, states.data(), none.data(), 0, 0, none.data(), 0, 0};
  if (apm_code_row(&lanes, classes.data(), 3, numbers.data()) == APM_TOO_LARGE) fail("an empty row", "all");
  numbers[0] = 1 << 30, lanes = start;
  if (apm_code_row(&lanes, classes.data(), 3, numbers.data()) != APM_TOO_LARGE) fail("a number too large", "all");
  numbers[0] = 0, classes[1] = 31;
  if (apm_code_row(&lanes, classes.data(), 3, numbers.data()) != APM_TOO_LARGE) fail("an unknown class", "all");
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> paths(argv + 1, argv + argc);
  if (paths.empty()) {
    const std::string all = apm_paths();
    for (size_t at = 0; at < all.size(); at = all.find(' ', at) == std::string::npos ? all.size() : all.find(' ', at) + 1)
      paths.push_back(all.substr(at, all.find(' ', at) - at));
  }
  const std::vector<Shape> shapes = {
      {{{{8, 8, 8}, 2, 0, 0}, {{8, 8, 8}, 2, 0, 1}}, {64, 64}, 1, false, false},
      {{{{1, 3, 7}, 1, 0, -1}, {{2, 1, 5}, 4, 0, 0}}, {7}, 2, true, true},
      {{{{3, 8, 1}, 3, 1, -1}, {{2, 7, 3}, 9, 1, 0}, {{5, 5, 5}, 8, 1, -1}}, {33, 16, 5}, 3, true, false},
      {{{{16, 9, 8}, 8, 0, -1}, {{4, 4, 4}, 6, 0, 0}, {{1, 1, 1}, 1, 0, 1}}, {}, 2, false, true},
  };
  for (const Shape& shape : shapes)
    for (int64_t n : {0, 1, 255, 256, 257, 1000}) run_network(shape, paths, n);
  for (const std::string& path : paths) run_together(shapes[2], path);
  for (int64_t n : {1, 300, 1000}) run_density(paths, n);
  for (int32_t continuous : {0, 1}) run_draw<uint8_t>(0, continuous), run_draw<int16_t>(3, continuous), run_draw<float>(8, continuous), run_draw<double>(9, continuous);
  run_rows();
  for (int64_t largest : {0, 900, 40000, 1 << 30}) {
    run_block(9, 8, 7, 4, largest), run_block(1, 1, 200, 1, largest), run_block(17, 1, 33, 16, largest), run_block(1, 1, 1, 128, largest);
  }
  for (int64_t largest : {0, 5, 40000, (1 << 26) - 1}) {
    run_numbers({{7, 8, 9}, 3, {20, -9, 5, 31, 0, -40, 3}}, largest);
    run_numbers({{1, 1, 5}, 1, {64, 0, 0, 0, 0, 0, 0}}, largest);
    run_numbers({{1, 9, 8}, 11, {-128, -128, -128, -128, -128, -128, -128}}, largest);
  }
  std::vector<float> values(20001, 1.0f), slope(20001, 0.5f), mean(20001), square(20001);
  apm_adam(values.data(), slope.data(), mean.data(), square.data(), 20001, 1, 0.01, 0.9, 0.99, 1e-14, 3);
  if (std::fabs(values[20000] - 0.99f) > 1e-5f) fail("adam", "all");
  std::printf("clean:");
  for (const std::string& path : paths) std::printf(" %s", path.c_str());
  std::printf("\n");
}
