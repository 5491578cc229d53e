#include "rasterizer.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "simd.hpp"

namespace splat {
namespace {

// gsplat's constants: a Gaussian counts where alpha >= 1/255, alpha is capped at 0.999, and a
// pixel is finished before its transmittance falls to 1e-4.
constexpr float kLog2AlphaMin = -7.994353437f;
constexpr float kLog2AlphaMax = -1.443417e-3f;
constexpr float kTransmittanceMin = 1e-4f;

constexpr float kLog2E = 1.442695041f;

// A tile is 16 x 16 pixels, in blocks of 4 x kLanes/4 pixels: one vector each.  64 bits hold one
// bit for every block of a tile: bit row * 4 + column.
constexpr int kTile = 16;
constexpr int kPixels = kTile * kTile;
constexpr int kBlockWidth = 4;
constexpr int kBlockHeight = kLanes / kBlockWidth;
constexpr int kBlockColumns = kTile / kBlockWidth;
constexpr int kBlockRows = kTile / kBlockHeight;
constexpr int kBlocks = kBlockColumns * kBlockRows;
constexpr uint64_t kAllBlocks = ~uint64_t{0} >> (64 - kBlocks);

// Centres of a tile's pixels, relative to its corner.
struct PixelCentres {
  Float x[kBlockColumns], y[kBlockRows];

  PixelCentres() {
    for (int lane = 0; lane < kLanes; ++lane) {
      for (int i = 0; i < kBlockColumns; ++i) x[i][lane] = i * kBlockWidth + lane % 4 + 0.5f;
      for (int i = 0; i < kBlockRows; ++i) y[i][lane] = i * kBlockHeight + lane / 4 + 0.5f;
    }
  }
};
const PixelCentres kCentres;

// Calls body(chunk, begin, end) for `threads` chunks of [0, count) at once.
template <class Body>
void in_chunks(int threads, int64_t count, Body body) {
#pragma omp parallel for num_threads(threads) schedule(static, 1)
  for (int chunk = 0; chunk < threads; ++chunk) {
    body(chunk, count * chunk / threads, count * (chunk + 1) / threads);
  }
}

// Turns counts[chunk][bin] into where each chunk puts its first item of each bin, bin by bin.
uint32_t prefix_sum(uint32_t* counts, int chunks, int64_t bins) {
  uint32_t total = 0;
  for (int64_t bin = 0; bin < bins; ++bin) {
    for (int chunk = 0; chunk < chunks; ++chunk) {
      uint32_t& count = counts[chunk * bins + bin];
      const uint32_t begin = total;
      total += count;
      count = begin;
    }
  }
  return total;
}

// One Gaussian in one tile, its coefficients in every lane.
struct TileSplat {
  Float u, v, xx, xy, yy, log_opacity, log_cap;
  uint64_t blocks;  // that it may touch

  template <class Splat>
  SPLAT_INLINE TileSplat(const Splat& s, int tile_x, int tile_y)
      : u(broadcast(s.u - tile_x * kTile)), v(broadcast(s.v - tile_y * kTile)),
        xx(broadcast(s.xx)), xy(broadcast(s.xy)), yy(broadcast(s.yy)),
        log_opacity(broadcast(s.log_opacity)),
        log_cap(broadcast(std::min(s.log_opacity, kLog2AlphaMax))) {
    const int left = std::max(s.left - tile_x * kBlockColumns, 0);
    const int right = std::min(s.right - tile_x * kBlockColumns, kBlockColumns - 1);
    const int top = std::max(s.top - tile_y * kBlockRows, 0);
    const int bottom = std::min(s.bottom - tile_y * kBlockRows, kBlockRows - 1);
    const uint64_t columns = ((2u << right) - (1u << left)) * 0x1111111111111111u;
    const uint64_t rows = (~uint64_t{0} << (4 * top)) & (~uint64_t{0} >> (60 - 4 * bottom));
    blocks = columns & rows;
  }
};

// log2(alpha) before its cap, in one block of pixels.
SPLAT_INLINE Float log_alpha(const TileSplat& s, Float dx, Float dy) {
  return (s.xx * dx + s.xy * dy) * dx + (s.yy * dy * dy + s.log_opacity);
}

// The blended value of one tile's pixels, block by block.
struct TileResult {
  const float* colors;         // [kBlocks][channels][kLanes]
  const float* transmittance;  // [kBlocks][kLanes]; the sign bit marks finished pixels
  int channels, x0, y0, width, height;

  // Calls pixel(y, x, transmittance, colors) for every pixel inside the image; channel c is
  // colors[c * kLanes].
  template <class Pixel>
  SPLAT_INLINE void for_each(Pixel pixel) const {
    const int rows = std::min(kTile, height - y0), columns = std::min(kTile, width - x0);
    for (int y = 0; y < rows; ++y) {
      for (int x = 0; x < columns; ++x) {
        const int block = y / kBlockHeight * kBlockColumns + x / kBlockWidth;
        const int lane = y % kBlockHeight * kBlockWidth + x % kBlockWidth;
        pixel(y0 + y, x0 + x, std::fabs(transmittance[block * kLanes + lane]),
              colors + block * channels * kLanes + lane);
      }
    }
  }
};

template <int Channels>
SPLAT_INLINE void write(const TileResult& tile, const Scene& scene, const FloatImage& image) {
  const int total = Channels ? Channels : tile.channels;
  tile.for_each([&](int y, int x, float transmittance, const float* colors) {
    const int64_t pixel = int64_t(y) * tile.width + x;
    image.alphas[pixel] = 1.f - transmittance;
    float* out = image.colors + pixel * total;
    for (int c = 0; c < total; ++c) {
      out[c] = colors[c * kLanes] +
               (c < scene.channels ? transmittance * scene.background[c] : 0.f);
    }
  });
}

SPLAT_INLINE uint8_t to_byte(float value) {
  return uint8_t(std::min(std::max(value, 0.f), 1.f) * 255.f + 0.5f);
}

template <int Channels>
SPLAT_INLINE void write(const TileResult& tile, const Scene& scene, const ScreenImage& image) {
  tile.for_each([&](int y, int x, float transmittance, const float* colors) {
    const int64_t pixel = int64_t(y) * tile.width + x;
    const float alpha = 1.f - transmittance;
    image.alphas[pixel] = alpha;
    image.depths[pixel] = alpha > 0.f ? colors[3 * kLanes] / alpha : 0.f;
    for (int c = 0; c < 3; ++c) {
      image.rgb[pixel * 3 + c] =
          to_byte(colors[c * kLanes] + transmittance * scene.background[c]);
    }
  });
}

}  // namespace

// A parallel, stable radix sort of the seen Gaussians by depth: positive floats sort like their
// bits.  Ties keep their order, so the result does not depend on the number of threads.
void Rasterizer::sort_by_depth(const Scene& scene, int threads) {
  struct Chunk {
    int64_t seen = 0;
    uint32_t nearest = ~0u, farthest = 0;
  };
  std::vector<Chunk> chunks(threads);
  const auto bits = [&](int64_t i) {
    uint32_t depth;
    std::memcpy(&depth, scene.depths + i, sizeof depth);
    return depth;
  };
  in_chunks(threads, scene.count, [&](int chunk, int64_t begin, int64_t end) {
    Chunk found;
    for (int64_t i = begin; i < end; ++i) {
      if (scene.extents[2 * i] > 0.f) {
        ++found.seen;
        found.nearest = std::min(found.nearest, bits(i));
        found.farthest = std::max(found.farthest, bits(i));
      }
    }
    chunks[chunk] = found;
  });

  std::vector<int64_t> first(threads);
  int64_t seen = 0;
  uint32_t nearest = ~0u, farthest = 0;
  for (int chunk = 0; chunk < threads; ++chunk) {
    first[chunk] = seen;
    seen += chunks[chunk].seen;
    nearest = std::min(nearest, chunks[chunk].nearest);
    farthest = std::max(farthest, chunks[chunk].farthest);
  }
  keys_.resize(seen);
  spare_keys_.resize(seen);
  if (!seen) return;
  in_chunks(threads, scene.count, [&](int chunk, int64_t begin, int64_t end) {
    Key* key = keys_.data() + first[chunk];
    for (int64_t i = begin; i < end; ++i) {
      if (scene.extents[2 * i] > 0.f) *key++ = {bits(i) - nearest, uint32_t(i)};
    }
  });

  // As few digits as the span of depths needs: two of 12 bits for a person before a camera.
  int span = 0;
  while (span < 32 && (farthest - nearest) >> span) ++span;
  const int passes = (span + 11) / 12;
  const int digit = passes ? (span + passes - 1) / passes : 0;
  const int64_t bins = int64_t{1} << digit;
  for (int shift = 0; shift < span; shift += digit) {
    const auto bin_of = [&](Key key) { return (key.depth >> shift) & uint32_t(bins - 1); };
    counts_.assign(bins * threads, 0);
    in_chunks(threads, seen, [&](int chunk, int64_t begin, int64_t end) {
      uint32_t* counts = counts_.data() + chunk * bins;
      for (int64_t i = begin; i < end; ++i) ++counts[bin_of(keys_[i])];
    });
    prefix_sum(counts_.data(), threads, bins);
    in_chunks(threads, seen, [&](int chunk, int64_t begin, int64_t end) {
      uint32_t* next = counts_.data() + chunk * bins;
      for (int64_t i = begin; i < end; ++i) spare_keys_[next[bin_of(keys_[i])]++] = keys_[i];
    });
    keys_.swap(spare_keys_);
  }
}

// Packs the seen Gaussians in their order of depth and lists them for every tile they may touch:
// a counting sort by tile of a sequence that is already in order of depth.
void Rasterizer::bin(const Scene& scene, bool record, int threads) {
  tiles_x_ = (scene.width + kTile - 1) / kTile;
  tiles_y_ = (scene.height + kTile - 1) / kTile;
  const int64_t tiles = int64_t(tiles_x_) * tiles_y_, seen = keys_.size();
  const int channels = scene.total_channels();
  splats_.resize(seen);
  colors_.resize(seen * channels);
  counts_.assign(tiles * threads, 0);
  if (record) slot_begin_.resize(seen + 1);

  const auto for_each_tile = [&](const Splat& s, auto visit) {
    if (s.right < s.left || s.bottom < s.top) return;
    for (int y = s.top / kBlockRows; y <= s.bottom / kBlockRows; ++y) {
      for (int x = s.left / kBlockColumns; x <= s.right / kBlockColumns; ++x) {
        visit(y * tiles_x_ + x);
      }
    }
  };
  // First and last block with a pixel centre in [low, high].
  const auto first_block = [](float low, int block) {
    return int16_t(int(std::max(std::ceil(low - 0.5f), 0.f)) / block);
  };
  const auto last_block = [](float high, int block, int size) {
    const int last = int(std::min(std::floor(high - 0.5f), size - 1.f));
    return int16_t(last < 0 ? -1 : last / block);
  };

  in_chunks(threads, seen, [&](int chunk, int64_t begin, int64_t end) {
    uint32_t* counts = counts_.data() + chunk * tiles;
    for (int64_t i = begin; i < end; ++i) {
      const int64_t id = keys_[i].id;
      const float u = scene.means2d[2 * id], v = scene.means2d[2 * id + 1];
      const float width = scene.extents[2 * id], height = scene.extents[2 * id + 1];
      const float* conic = scene.conics + 3 * id;
      Splat& s = splats_[i];
      s = {u, v, -0.5f * kLog2E * conic[0], -kLog2E * conic[1], -0.5f * kLog2E * conic[2],
           std::log2(scene.opacities[id]),
           first_block(u - width, kBlockWidth), last_block(u + width, kBlockWidth, scene.width),
           first_block(v - height, kBlockHeight),
           last_block(v + height, kBlockHeight, scene.height)};
      float* color = colors_.data() + i * channels;
      std::copy_n(scene.colors + id * scene.channels, scene.channels, color);
      if (scene.with_depth) color[scene.channels] = scene.depths[id];
      uint32_t touched = 0;
      for_each_tile(s, [&](int tile) { ++counts[tile], ++touched; });
      if (record) slot_begin_[i + 1] = touched;
    }
  });
  const uint32_t entries = prefix_sum(counts_.data(), threads, tiles);
  tile_begin_.resize(tiles + 1);
  std::copy_n(counts_.data(), tiles, tile_begin_.data());
  tile_begin_[tiles] = entries;
  tile_splats_.resize(entries);
  if (record) {
    slots_.resize(entries);
    slot_begin_[0] = 0;
    for (int64_t i = 0; i < seen; ++i) slot_begin_[i + 1] += slot_begin_[i];
  }

  in_chunks(threads, seen, [&](int chunk, int64_t begin, int64_t end) {
    uint32_t* next = counts_.data() + chunk * tiles;
    for (int64_t i = begin; i < end; ++i) {
      uint32_t* slot = record ? slots_.data() + slot_begin_[i] : nullptr;
      for_each_tile(splats_[i], [&](int tile) {
        if (record) *slot++ = next[tile];
        tile_splats_[next[tile]++] = uint32_t(i);
      });
    }
  });
}

template <int Channels, bool Record, class Image>
void Rasterizer::draw(const Scene& scene, const Image& image, int threads) {
  const int channels = Channels ? Channels : scene.total_channels();
  const int tiles = tiles_x_ * tiles_y_;
  if (Record) {
    transmittance_.resize(int64_t(tiles) * kPixels);
    last_.resize(int64_t(tiles) * kPixels);
  }
#pragma omp parallel num_threads(threads)
  {
    std::vector<float> sums(channels * kPixels);
    alignas(64) float transmittance[kPixels];
    alignas(64) int32_t last[Record ? kPixels : 1];
#pragma omp for schedule(dynamic, 2)
    for (int tile = 0; tile < tiles; ++tile) {
      const int tile_x = tile % tiles_x_, tile_y = tile / tiles_x_;
      const int x0 = tile_x * kTile, y0 = tile_y * kTile;
      // Finished pixels carry a sign bit; those outside the image are finished from the start.
      uint64_t open = 0;
      for (int block = 0; block < kBlocks; ++block) {
        const Float x = kCentres.x[block % kBlockColumns], y = kCentres.y[block / kBlockColumns];
        const Int inside = (x < float(scene.width - x0)) & (y < float(scene.height - y0));
        const Float start = inside ? broadcast(1.f) : broadcast(-1.f);
        store(transmittance + block * kLanes, start);
        open |= uint64_t(!all_negative(start)) << block;
      }
      std::fill(sums.begin(), sums.end(), 0.f);
      if (Record) std::fill_n(last, kPixels, -1);

      for (uint32_t entry = tile_begin_[tile]; open && entry < tile_begin_[tile + 1]; ++entry) {
        const uint32_t index = tile_splats_[entry];
        const TileSplat s(splats_[index], tile_x, tile_y);
        const float* color = colors_.data() + int64_t(index) * channels;
        for (uint64_t blocks = s.blocks & open; blocks; blocks &= blocks - 1) {
          const int block = __builtin_ctzll(blocks);
          const Float dx = s.u - kCentres.x[block % kBlockColumns];
          const Float dy = s.v - kCentres.y[block / kBlockColumns];
          const Float exponent = log_alpha(s, dx, dy);
          const Float alpha =
              keep(exponent >= kLog2AlphaMin, exp2(min(exponent, s.log_cap)));
          const Float before = load(transmittance + block * kLanes);
          const Float after = before - before * alpha;
          const Int drawn = after > kTransmittanceMin;
          const Float weight = keep(drawn, before * alpha);
          const Float next = drawn ? after : (Float)((Int)before | INT32_MIN);
          store(transmittance + block * kLanes, next);
          open &= ~(uint64_t(all_negative(next)) << block);
          float* sum = sums.data() + block * channels * kLanes;
          for (int c = 0; c < channels; ++c) {
            store(sum + c * kLanes, load(sum + c * kLanes) + weight * color[c]);
          }
          if (Record) {
            Int previous;
            std::memcpy(&previous, last + block * kLanes, sizeof previous);
            const Int now = weight > 0.f ? (Int{} + int32_t(entry)) : previous;
            std::memcpy(last + block * kLanes, &now, sizeof now);
          }
        }
      }

      const TileResult result{sums.data(), transmittance, channels, x0, y0,
                              scene.width, scene.height};
      write<Channels>(result, scene, image);
      if (Record) {
        float* kept = transmittance_.data() + int64_t(tile) * kPixels;
        for (int i = 0; i < kPixels; ++i) kept[i] = std::fabs(transmittance[i]);
        std::copy_n(last, kPixels, last_.data() + int64_t(tile) * kPixels);
      }
    }
  }
}

template <class Image>
void Rasterizer::forward(const Scene& scene, const Image& image, bool record, int threads) {
  sort_by_depth(scene, threads);
  bin(scene, record, threads);
  const auto dispatch = [&](auto channels) {
    constexpr int kChannels = decltype(channels)::value;
    if (record) {
      draw<kChannels, true>(scene, image, threads);
    } else {
      draw<kChannels, false>(scene, image, threads);
    }
  };
  switch (scene.total_channels()) {
    case 3: return dispatch(std::integral_constant<int, 3>{});
    case 4: return dispatch(std::integral_constant<int, 4>{});
    default: return dispatch(std::integral_constant<int, 0>{});
  }
}

template void Rasterizer::forward(const Scene&, const FloatImage&, bool, int);
template void Rasterizer::forward(const Scene&, const ScreenImage&, bool, int);

// Columns of a row of slot_gradients_; the channels' gradients follow.  With G = alpha dL/dalpha
// summed over pixels, each is a moment of G: enough for mean, conic and opacity.
enum { kG, kGx, kGy, kGxx, kGxy, kGyy, kMoments };

// Each tile goes back to front and leaves one row per Gaussian that it listed; no two tiles
// write to the same row.
template <int Channels>
void Rasterizer::differentiate(const Scene& scene, const float* grad_colors,
                               const float* grad_alphas, int threads) {
  const int channels = Channels ? Channels : scene.total_channels();
  const int tiles = tiles_x_ * tiles_y_;
  const int columns = kMoments + channels;
#pragma omp parallel num_threads(threads)
  {
    std::vector<float> tile_grads(channels * kPixels), color_sums(channels * kLanes);
    alignas(64) float transmittance[kPixels];
    alignas(64) float behind[kPixels];  // what lies behind a pixel's current Gaussian, times grad
    int32_t block_last[kBlocks];
    int block_order[kBlocks];
#pragma omp for schedule(dynamic, 2)
    for (int tile = 0; tile < tiles; ++tile) {
      const int tile_x = tile % tiles_x_, tile_y = tile / tiles_x_;
      const int32_t* last = last_.data() + int64_t(tile) * kPixels;
      std::copy_n(transmittance_.data() + int64_t(tile) * kPixels, kPixels, transmittance);
      for (int block = 0; block < kBlocks; ++block) {
        block_order[block] = block;
        block_last[block] = *std::max_element(last + block * kLanes, last + (block + 1) * kLanes);
        for (int lane = 0; lane < kLanes; ++lane) {
          const int i = block * kLanes + lane;
          const int x = tile_x * kTile + block % kBlockColumns * kBlockWidth + lane % kBlockWidth;
          const int y =
              tile_y * kTile + block / kBlockColumns * kBlockHeight + lane / kBlockWidth;
          const bool inside = x < scene.width && y < scene.height;
          const int64_t pixel = int64_t(y) * scene.width + x;
          float grad_transmittance = inside ? -grad_alphas[pixel] : 0.f;
          for (int c = 0; c < channels; ++c) {
            const float grad = inside ? grad_colors[pixel * channels + c] : 0.f;
            tile_grads[(block * channels + c) * kLanes + lane] = grad;
            if (c < scene.channels) grad_transmittance += grad * scene.background[c];
          }
          behind[i] = transmittance[i] * grad_transmittance;
        }
      }
      std::sort(block_order, block_order + kBlocks,
                [&](int a, int b) { return block_last[a] > block_last[b]; });

      uint64_t open = 0;  // blocks with a pixel that the current Gaussian may have reached
      int opened = 0;
      for (int64_t entry = int64_t(tile_begin_[tile + 1]) - 1; entry >= tile_begin_[tile];
           --entry) {
        while (opened < kBlocks && block_last[block_order[opened]] >= entry) {
          open |= uint64_t{1} << block_order[opened++];
        }
        float* row = slot_gradients_.data() + entry * columns;
        const uint32_t index = tile_splats_[entry];
        const TileSplat s(splats_[index], tile_x, tile_y);
        if (!(s.blocks & open)) {
          std::fill_n(row, columns, 0.f);
          continue;
        }
        const float* color = colors_.data() + int64_t(index) * channels;
        Float moments[kMoments] = {}, fixed_sums[Channels ? Channels : 1] = {};
        if (!Channels) std::fill(color_sums.begin(), color_sums.end(), 0.f);
        for (uint64_t blocks = s.blocks & open; blocks; blocks &= blocks - 1) {
          const int block = __builtin_ctzll(blocks);
          const Float dx = s.u - kCentres.x[block % kBlockColumns];
          const Float dy = s.v - kCentres.y[block / kBlockColumns];
          const Float exponent = log_alpha(s, dx, dy);
          Int reached;
          std::memcpy(&reached, last + block * kLanes, sizeof reached);
          const Int drawn = (exponent >= kLog2AlphaMin) & (reached >= int32_t(entry));
          const Float alpha = keep(drawn, exp2(min(exponent, s.log_cap)));
          const Float inverse = 1.f / (1.f - alpha);
          const Float before = load(transmittance + block * kLanes) * inverse;
          const Float weight = before * alpha;
          store(transmittance + block * kLanes, before);

          const float* grad = tile_grads.data() + block * channels * kLanes;
          Float color_dot{};
          for (int c = 0; c < channels; ++c) {
            const Float g = load(grad + c * kLanes);
            color_dot += g * color[c];
            if (Channels) {
              fixed_sums[c] += weight * g;
            } else {
              float* sum = color_sums.data() + c * kLanes;
              store(sum, load(sum) + weight * g);
            }
          }
          const Float rest = load(behind + block * kLanes);
          store(behind + block * kLanes, rest + weight * color_dot);
          const Float grad_alpha = before * color_dot - rest * inverse;
          const Float G = keep(exponent <= kLog2AlphaMax, alpha * grad_alpha);
          const Float Gx = G * dx, Gy = G * dy;
          moments[kG] += G;
          moments[kGx] += Gx;
          moments[kGy] += Gy;
          moments[kGxx] += Gx * dx;
          moments[kGxy] += Gx * dy;
          moments[kGyy] += Gy * dy;
        }
        for (int i = 0; i < kMoments; ++i) row[i] = sum(moments[i]);
        for (int c = 0; c < channels; ++c) {
          row[kMoments + c] = sum(Channels ? fixed_sums[Channels ? c : 0]
                                           : load(color_sums.data() + c * kLanes));
        }
      }
    }
  }
}

void Rasterizer::backward(const Scene& scene, const float* grad_colors,
                          const float* grad_alphas, int threads, const SceneGradients& out) {
  const int channels = scene.total_channels(), columns = kMoments + channels;
  slot_gradients_.resize(tile_splats_.size() * columns);
  switch (channels) {
    case 3: differentiate<3>(scene, grad_colors, grad_alphas, threads); break;
    case 4: differentiate<4>(scene, grad_colors, grad_alphas, threads); break;
    default: differentiate<0>(scene, grad_colors, grad_alphas, threads);
  }

  // Each Gaussian sums its rows in the order of its tiles: the same bits whatever the threads.
  in_chunks(threads, int64_t(keys_.size()), [&](int, int64_t begin, int64_t end) {
    std::vector<float> total(columns);
    for (int64_t i = begin; i < end; ++i) {
      std::fill(total.begin(), total.end(), 0.f);
      for (uint32_t slot = slot_begin_[i]; slot < slot_begin_[i + 1]; ++slot) {
        const float* row = slot_gradients_.data() + int64_t(slots_[slot]) * columns;
        for (int c = 0; c < columns; ++c) total[c] += row[c];
      }
      const int64_t id = keys_[i].id;
      const float* conic = scene.conics + 3 * id;
      out.means2d[2 * id] = -(conic[0] * total[kGx] + conic[1] * total[kGy]);
      out.means2d[2 * id + 1] = -(conic[1] * total[kGx] + conic[2] * total[kGy]);
      out.conics[3 * id] = -0.5f * total[kGxx];
      out.conics[3 * id + 1] = -total[kGxy];
      out.conics[3 * id + 2] = -0.5f * total[kGyy];
      out.opacities[id] = total[kG] / scene.opacities[id];
      std::copy_n(total.data() + kMoments, scene.channels, out.colors + id * scene.channels);
      if (scene.with_depth) out.depths[id] = total[kMoments + scene.channels];
    }
  });
}

}  // namespace splat
