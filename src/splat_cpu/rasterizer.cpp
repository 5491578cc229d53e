#include "rasterizer.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <type_traits>

#include "simd.hpp"
#include "workers.hpp"

namespace splat {
namespace {

// gsplat's constants: a Gaussian counts where alpha >= 1/255, alpha is capped at 0.999, and a
// pixel is finished before its transmittance falls to 1e-4.
constexpr float kLog2AlphaMin = -7.994353437f;
constexpr float kLog2AlphaMax = -1.443417e-3f;
constexpr float kTransmittanceMin = 1e-4f;
// On a screen a block of pixels is finished when what is behind it is half a grey level at most.
constexpr float kScreenTransmittanceMin = 0.5f / 255.f;

constexpr float kLog2E = 1.442695041f;

// How many Gaussians ahead memory is asked for.
constexpr int kAhead = 8;

// A tile is 16 x 16 pixels, in blocks of 4 x kLanes/4 pixels: one vector each.  64 bits hold one
// bit for every block of a tile: bit row * 4 + column.
constexpr int kTile = 16;
constexpr int kPixels = kTile * kTile;
constexpr int kBlockWidth = 4;
constexpr int kBlockHeight = kLanes / kBlockWidth;
constexpr int kBlockColumns = kTile / kBlockWidth;
constexpr int kBlockRows = kTile / kBlockHeight;
constexpr int kBlocks = kBlockColumns * kBlockRows;

// Centres of a block's pixels, relative to the tile's corner.
struct Centres {
  Float x, y;

  Centres() = default;
  explicit Centres(int block) {
    for (int lane = 0; lane < kLanes; ++lane) {
      x[lane] = block % kBlockColumns * kBlockWidth + lane % kBlockWidth + 0.5f;
      y[lane] = block / kBlockColumns * kBlockHeight + lane / kBlockWidth + 0.5f;
    }
  }
};

// Calls body(chunk, begin, end) for `threads` chunks of [0, count) at once.
template <class Body>
void in_chunks(int threads, int64_t count, Body body) {
  parallel_for(threads, threads, [&](int chunk) {
    body(chunk, count * chunk / threads, count * (chunk + 1) / threads);
  });
}

// Calls body(begin, end) for all tiles, a few at a time.
template <class Body>
void in_tile_groups(int threads, int tiles, Body body) {
  constexpr int kGroup = 4;
  parallel_for((tiles + kGroup - 1) / kGroup, threads, [&](int group) {
    body(group * kGroup, std::min((group + 1) * kGroup, tiles));
  });
}

// Turns counts[chunk][bin] into where each chunk puts its first item of each bin, bin by bin.
uint32_t prefix_sum(uint32_t* counts, int chunks, int64_t bins) {
  uint64_t total = 0;
  for (int64_t bin = 0; bin < bins; ++bin) {
    for (int chunk = 0; chunk < chunks; ++chunk) {
      uint32_t& count = counts[chunk * bins + bin];
      const uint32_t begin = uint32_t(total);
      total += count;
      count = begin;
    }
  }
  if (total > INT32_MAX) {
    throw std::length_error("the Gaussians overlap too many tiles; they are too large");
  }
  return uint32_t(total);
}

// One Gaussian in one tile, its coefficients in every lane.
struct TileSplat {
  Float u, v, xx, xy, yy, log_opacity, log_cap;
  uint64_t blocks;  // that it may touch

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

// One value per channel and pixel of a block: in the block itself where their number is known to
// the compiler, else in memory that the blocks of a tile share.
template <int Channels>
struct ChannelValues {
  Float values[Channels];
  static int shared_size(int) { return 0; }
  void share(Float*) {}
};
template <>
struct ChannelValues<0> {
  Float* values;
  // One more than needed: blocks a multiple of 4 KiB apart would stall each other.
  static int shared_size(int channels) { return channels + 1; }
  void share(Float* memory) { values = memory; }
};

// One block of pixels while its tile is drawn; together, so that one pointer reaches all.
template <int Channels>
struct DrawnBlock {
  Centres centres;
  Float transmittance;  // the sign bit marks finished pixels, but not on a screen
  Int last;             // last entry of the tile's list that was drawn, or -1
  ChannelValues<Channels> sums;
};

// One block of pixels while its tile is differentiated.
template <int Channels>
struct DifferentiatedBlock {
  Centres centres;
  Float transmittance;  // behind the current Gaussian, on the way to the front
  Float behind;         // colour behind the current Gaussian, times its gradient
  Int last;
  ChannelValues<Channels> grads;
};

// All blocks of one thread's current tile.
template <class Block>
struct Tile {
  Block blocks[kBlocks];
  std::vector<Float> memory;

  template <class Values>
  Tile(int channels, Values Block::*values) {
    const int size = Values::shared_size(channels);
    memory.resize(kBlocks * size);
    for (int i = 0; i < kBlocks; ++i) {
      blocks[i].centres = Centres(i);
      (blocks[i].*values).share(memory.data() + i * size);
    }
  }

  // Calls visit(y, x, block, lane) for the pixels of the tile's first rows and columns.
  template <class Visit>
  SPLAT_INLINE void for_each_pixel(int rows, int columns, Visit visit) {
    rows = std::min(rows, kTile), columns = std::min(columns, kTile);
    for (int y = 0; y < rows; ++y) {
      for (int x = 0; x < columns; x += kBlockWidth) {
        Block& block = blocks[y / kBlockHeight * kBlockColumns + x / kBlockWidth];
        const int lane = y % kBlockHeight * kBlockWidth;
        const int count = std::min(kBlockWidth, columns - x);
        for (int i = 0; i < count; ++i) visit(y, x + i, block, lane + i);
      }
    }
  }
};

template <class Block>
SPLAT_INLINE void write(Tile<Block>& tile, const Scene& scene, int x0, int y0,
                        const FloatImage& image) {
  const int channels = scene.total_channels();
  tile.for_each_pixel(scene.height - y0, scene.width - x0, [&](int y, int x, const Block& block,
                                                               int lane) {
    const int64_t pixel = int64_t(y0 + y) * scene.width + x0 + x;
    const float transmittance = std::fabs(block.transmittance[lane]);
    image.alphas[pixel] = 1.f - transmittance;
    float* out = image.colors + pixel * channels;
    for (int c = 0; c < scene.channels; ++c) {
      out[c] = block.sums.values[c][lane] + transmittance * scene.background[c];
    }
    if (scene.with_depth) out[channels - 1] = block.sums.values[channels - 1][lane];
  });
}

SPLAT_INLINE Int to_byte(Float value) {
  const Float capped = value > 0.f ? min(value, broadcast(1.f)) : Float{};  // NaN becomes 0
  return __builtin_convertvector(capped * 255.f + 0.5f, Int);
}

template <class Block>
SPLAT_INLINE void write(const Tile<Block>& tile, const Scene& scene, int x0, int y0,
                        const ScreenImage& image) {
  for (int i = 0; i < kBlocks; ++i) {
    const Block& block = tile.blocks[i];
    const int x = x0 + i % kBlockColumns * kBlockWidth;
    const int y = y0 + i / kBlockColumns * kBlockHeight;
    const int columns = std::min(kBlockWidth, scene.width - x);
    const int rows = std::min(kBlockHeight, scene.height - y);
    const Float alpha = 1.f - block.transmittance;
    const Float depth = keep(alpha > 0.f, block.sums.values[3] / alpha);
    Int rgb[3];
    for (int c = 0; c < 3; ++c) {
      rgb[c] = to_byte(block.sums.values[c] + block.transmittance * scene.background[c]);
    }
    for (int row = 0; row < rows; ++row) {
      const int64_t first = int64_t(y + row) * scene.width + x;
      for (int column = 0; column < columns; ++column) {
        const int lane = row * kBlockWidth + column;
        image.alphas[first + column] = alpha[lane];
        image.depths[first + column] = depth[lane];
        for (int c = 0; c < 3; ++c) image.rgb[3 * (first + column) + c] = uint8_t(rgb[c][lane]);
      }
    }
  }
}

// What `write` would do for a tile that no Gaussian touches.
void write_background(const Scene& scene, int x0, int y0, const ScreenImage& image) {
  const int columns = std::min(kTile, scene.width - x0);
  uint8_t rgb[3];
  for (int c = 0; c < 3; ++c) rgb[c] = uint8_t(to_byte(broadcast(scene.background[c]))[0]);
  for (int y = y0; y < std::min(y0 + kTile, scene.height); ++y) {
    const int64_t first = int64_t(y) * scene.width + x0;
    std::fill_n(image.alphas + first, columns, 0.f);
    std::fill_n(image.depths + first, columns, 0.f);
    for (int x = 0; x < columns; ++x) std::copy_n(rgb, 3, image.rgb + 3 * (first + x));
  }
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
      // The order of depth reads all over memory: ask for what comes soon.
      const int64_t soon = keys_[std::min(i + kAhead, end - 1)].id;
      __builtin_prefetch(scene.means2d + 2 * soon);
      __builtin_prefetch(scene.extents + 2 * soon);
      __builtin_prefetch(scene.conics + 3 * soon);
      __builtin_prefetch(scene.opacities + soon);
      __builtin_prefetch(scene.colors + scene.channels * soon);

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
      for (int c = 0; c < scene.channels; ++c) color[c] = scene.colors[id * scene.channels + c];
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
  tile_splats_.resize(entries + kAhead);  // zeros, which only feed prefetches
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
  constexpr bool kOnScreen = std::is_same<Image, ScreenImage>::value;
  if (Record) {
    transmittance_.resize(int64_t(tiles) * kPixels);
    last_.resize(int64_t(tiles) * kPixels);
  }
  in_tile_groups(threads, tiles, [&](int begin, int end) {
    using Block = DrawnBlock<Channels>;
    Tile<Block> area(channels, &Block::sums);
    for (int tile = begin; tile < end; ++tile) {
      const int tile_x = tile % tiles_x_, tile_y = tile / tiles_x_;
      const int x0 = tile_x * kTile, y0 = tile_y * kTile;
      if constexpr (kOnScreen) {
        if (tile_begin_[tile] == tile_begin_[tile + 1]) {
          write_background(scene, x0, y0, image);
          continue;
        }
      }
      uint64_t open = 0;  // blocks with unfinished pixels; pixels outside the image are finished
      for (int i = 0; i < kBlocks; ++i) {
        Block& block = area.blocks[i];
        const Int inside = (block.centres.x < float(scene.width - x0)) &
                           (block.centres.y < float(scene.height - y0));
        block.transmittance = inside ? broadcast(1.f) : broadcast(kOnScreen ? 0.f : -1.f);
        if (any(inside)) open |= uint64_t{1} << i;
        block.last = Int{} - 1;
        for (int c = 0; c < channels; ++c) block.sums.values[c] = Float{};
      }

      for (uint32_t entry = tile_begin_[tile]; open && entry < tile_begin_[tile + 1]; ++entry) {
        const uint32_t index = tile_splats_[entry], soon = tile_splats_[entry + kAhead];
        __builtin_prefetch(&splats_[soon]);
        __builtin_prefetch(&colors_[int64_t(soon) * channels]);
        const TileSplat s(splats_[index], tile_x, tile_y);
        const float* color = colors_.data() + int64_t(index) * channels;
        for (uint64_t touched = s.blocks & open; touched; touched &= touched - 1) {
          const int i = __builtin_ctzll(touched);
          Block& block = area.blocks[i];
          const Float exponent = log_alpha(s, s.u - block.centres.x, s.v - block.centres.y);
          const Int visible = exponent >= kLog2AlphaMin;
          const Float capped = min(exponent, s.log_cap);
          const Float before = block.transmittance;
          Float weight;
          bool finished;
          if constexpr (kOnScreen) {
            weight = before * keep(visible, exp2_of_bytes(capped));
            block.transmittance = before - weight;
            finished = all_negative(block.transmittance - kScreenTransmittanceMin);
          } else {
            const Float alpha = keep(visible, exp2(capped));
            const Float after = before - before * alpha;
            const Int drawn = after > kTransmittanceMin;
            weight = keep(drawn, before * alpha);
            block.transmittance = drawn ? after : (Float)((Int)before | INT32_MIN);
            finished = all_negative(block.transmittance);
          }
          Float* sums = block.sums.values;
          for (int c = 0; c < channels; ++c) sums[c] += weight * color[c];
          if (Record) block.last = weight > 0.f ? Int{} + int32_t(entry) : block.last;
          if (finished) open &= ~(uint64_t{1} << i);
        }
      }

      write(area, scene, x0, y0, image);
      if (Record) {
        for (int i = 0; i < kBlocks; ++i) {
          const Block& block = area.blocks[i];
          const int64_t first = int64_t(tile) * kPixels + i * kLanes;
          store(transmittance_.data() + first, (Float)((Int)block.transmittance & INT32_MAX));
          std::memcpy(last_.data() + first, &block.last, sizeof block.last);
        }
      }
    }
  });
}

template <bool Record>
void Rasterizer::draw_floats(const Scene& scene, const FloatImage& image, int threads) {
  switch (scene.total_channels()) {
    case 3: return draw<3, Record>(scene, image, threads);
    case 4: return draw<4, Record>(scene, image, threads);
    default: return draw<0, Record>(scene, image, threads);
  }
}

void Rasterizer::forward(const Scene& scene, const FloatImage& image, bool record, int threads) {
  sort_by_depth(scene, threads);
  bin(scene, record, threads);
  if (record) {
    draw_floats<true>(scene, image, threads);
  } else {
    draw_floats<false>(scene, image, threads);
  }
}

void Rasterizer::forward(const Scene& scene, const ScreenImage& image, int threads) {
  sort_by_depth(scene, threads);
  bin(scene, false, threads);
  draw<4, false>(scene, image, threads);
}

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
  in_tile_groups(threads, tiles, [&](int begin, int end) {
    using Block = DifferentiatedBlock<Channels>;
    Tile<Block> area(channels, &Block::grads);
    ChannelValues<Channels> color_sums;
    std::vector<Float> memory(color_sums.shared_size(channels));
    color_sums.share(memory.data());
    int32_t block_last[kBlocks];
    int order[kBlocks];
    for (int tile = begin; tile < end; ++tile) {
      if (tile_begin_[tile] == tile_begin_[tile + 1]) continue;
      const int tile_x = tile % tiles_x_, tile_y = tile / tiles_x_;
      const int x0 = tile_x * kTile, y0 = tile_y * kTile;
      for (int i = 0; i < kBlocks; ++i) {
        Block& block = area.blocks[i];
        const int64_t first = int64_t(tile) * kPixels + i * kLanes;
        const int32_t* last = last_.data() + first;
        block.transmittance = load(transmittance_.data() + first);
        std::memcpy(&block.last, last, sizeof block.last);
        order[i] = i;
        block_last[i] = *std::max_element(last, last + kLanes);
        block.behind = Float{};
        for (int c = 0; c < channels; ++c) block.grads.values[c] = Float{};
      }
      area.for_each_pixel(scene.height - y0, scene.width - x0, [&](int y, int x, Block& block,
                                                                   int lane) {
        const int64_t pixel = int64_t(y0 + y) * scene.width + x0 + x;
        const float* grad = grad_colors + pixel * channels;
        float grad_transmittance = -grad_alphas[pixel];
        for (int c = 0; c < channels; ++c) block.grads.values[c][lane] = grad[c];
        for (int c = 0; c < scene.channels; ++c) {
          grad_transmittance += grad[c] * scene.background[c];
        }
        block.behind[lane] = block.transmittance[lane] * grad_transmittance;
      });
      std::sort(order, order + kBlocks,
                [&](int a, int b) { return block_last[a] > block_last[b]; });

      uint64_t open = 0;  // blocks with a pixel that the current Gaussian may have reached
      int opened = 0;
      for (int64_t entry = int64_t(tile_begin_[tile + 1]) - 1; entry >= tile_begin_[tile];
           --entry) {
        while (opened < kBlocks && block_last[order[opened]] >= entry) {
          open |= uint64_t{1} << order[opened++];
        }
        float* row = slot_gradients_.data() + entry * columns;
        const uint32_t index = tile_splats_[entry];
        const TileSplat s(splats_[index], tile_x, tile_y);
        const float* color = colors_.data() + int64_t(index) * channels;
        Float moments[kMoments] = {};
        for (int c = 0; c < channels; ++c) color_sums.values[c] = Float{};
        for (uint64_t touched = s.blocks & open; touched; touched &= touched - 1) {
          Block& block = area.blocks[__builtin_ctzll(touched)];
          const Float dx = s.u - block.centres.x, dy = s.v - block.centres.y;
          const Float exponent = log_alpha(s, dx, dy);
          const Int drawn = (exponent >= kLog2AlphaMin) & (block.last >= int32_t(entry));
          const Float alpha = keep(drawn, exp2(min(exponent, s.log_cap)));
          const Float inverse = 1.f / (1.f - alpha);
          const Float before = block.transmittance * inverse;
          const Float weight = before * alpha;
          block.transmittance = before;

          const Float* grads = block.grads.values;
          Float color_dot{};
          for (int c = 0; c < channels; ++c) {
            color_dot += grads[c] * color[c];
            color_sums.values[c] += grads[c] * weight;
          }
          const Float grad_alpha = before * color_dot - block.behind * inverse;
          block.behind += weight * color_dot;
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
        for (int c = 0; c < channels; ++c) row[kMoments + c] = sum(color_sums.values[c]);
      }
    }
  });
}

void Rasterizer::backward(const Scene& scene, const float* grad_colors,
                          const float* grad_alphas, int threads, const SceneGradients& out) {
  const int channels = scene.total_channels(), columns = kMoments + channels;
  slot_gradients_.resize(slots_.size() * columns);
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
        const uint32_t soon = slots_[std::min<size_t>(slot + kAhead, slots_.size() - 1)];
        __builtin_prefetch(slot_gradients_.data() + int64_t(soon) * columns);
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
