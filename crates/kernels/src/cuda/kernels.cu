// The operations that candle has no good CUDA kernel for. Each has a CPU twin in Rust, named beside it, that gives the same
// bytes. The code keeps to what C and CUDA C++ have in common, so that a test can run it on the CPU, thread by thread
// (`emulation.c`): there is no GPU where the tests run.

#ifdef __CUDACC__
#define KERNEL extern "C" __global__ void
#define FUNCTION __device__ static
#endif

typedef unsigned int u32;
typedef unsigned long long u64;

#define THREADS 256u // of every block below
#define TILE 256u    // keys that a block sorts
#define LONGEST 2048u // list of top_k: what fits into shared memory
#define WIDEST 1024u  // state of a recurrent unit, likewise
#define AT_ONCE 8u    // elements that a thread asks of the memory before it waits for the first

// The key of a part's dropout mask. Twin: `Dropout::mask`.
FUNCTION u64 mask_of(u64 key, u64 part) {
  u64 bits = key + (part + 1) * 0x9e3779b97f4a7c15ull;
  bits = (bits ^ (bits >> 30)) * 0xbf58476d1ce4e5b9ull;
  bits = (bits ^ (bits >> 27)) * 0x94d049bb133111ebull;
  return bits ^ (bits >> 31);
}

// The dropout factor of the element at `place`: 0 or `scale`. Twin: `dropout::Mask::factor`.
FUNCTION float factor_at(u64 mask, u32 place, u32 threshold, float scale) {
  u32 hash = (place * 0x9e3779b1u) ^ (u32)mask;
  hash = (hash ^ (hash >> 16)) * 0x21f0aaadu;
  hash = ((hash ^ (hash >> 15)) + (u32)(mask >> 32)) * 0xd35a2d97u;
  hash = (hash ^ (hash >> 15)) * 0x85ebca6bu;
  hash ^= hash >> 16;
  return hash >= threshold ? scale : 0.0f;
}

// Dropout factors of `parts` blocks of `rows` x `width` elements. Part p has its own mask over its first
// `lengths[p / sharers]` columns. Twin: `dropout::Factors`.
KERNEL dropout_factors(float *factors, const u32 *lengths, u64 key, u32 threshold, float scale, u32 parts, u32 sharers,
                       u32 rows, u32 width) {
  u64 index = (u64)blockIdx.x * blockDim.x + threadIdx.x;
  u64 block = (u64)rows * width;
  if (index >= block * parts) return;
  u64 part = index / block;
  u32 row = (u32)(index % block / width);
  u32 column = (u32)(index % width);
  factors[index] = factor_at(mask_of(key, part), row * lengths[part / sharers] + column, threshold, scale);
}

// `residual + factor * x`, of `count` elements; without a residual where it is null. At threshold 0 factors are `scale`.
KERNEL drop_add(const float *x, const float *residual, float *y, u64 key, u32 threshold, float scale, u32 count) {
  u64 mask = mask_of(key, 0);
  for (u32 i = blockIdx.x * THREADS + threadIdx.x; i < count; i += gridDim.x * THREADS) {
    float kept = threshold > 0 ? x[i] * factor_at(mask, i, threshold, scale) : x[i];
    y[i] = residual ? residual[i] + kept : kept;
  }
}

// gelu in its tanh form (kind 0) or relu (kind 1), of `count` elements; with `g`, what it makes of that gradient.
KERNEL activate(const float *x, const float *g, float *y, u32 kind, u32 count) {
  for (u32 i = blockIdx.x * THREADS + threadIdx.x; i < count; i += gridDim.x * THREADS) {
    float value = x[i];
    if (kind == 1) {
      y[i] = value > 0.0f ? (g ? g[i] : value) : 0.0f;
      continue;
    }
    float share = 1.0f / (1.0f + expf(-1.5957692f * value * fmaf(0.044715f * value, value, 1.0f)));
    float inner = 1.5957692f * fmaf(3.0f * 0.044715f * value, value, 1.0f);
    y[i] = g ? g[i] * fmaf(value * share * (1.0f - share), inner, share) : value * share;
  }
}

// A stable sort by the 8 bits of each key from `shift` on takes three kernels. First, how often each of their 256 values
// stands in each tile: `counts` is (256, tiles).
KERNEL count_digits(const u32 *keys, u32 *counts, u32 count, u32 shift) {
  __shared__ u32 histogram[256];
  histogram[threadIdx.x] = 0;
  __syncthreads();
  u32 start = blockIdx.x * TILE;
  for (u32 i = threadIdx.x; i < TILE && start + i < count; i += THREADS) {
    atomicAdd(&histogram[(keys[start + i] >> shift) & 255u], 1u);
  }
  __syncthreads();
  counts[threadIdx.x * gridDim.x + blockIdx.x] = histogram[threadIdx.x];
}

// Turns `values`, one of each thread of a block, into the sums of all up to that thread's.
#define BLOCK_SCAN(values)                                                                       \
  for (u32 reach = 1; reach < THREADS; reach *= 2) {                                             \
    __syncthreads();                                                                             \
    u32 earlier = threadIdx.x >= reach ? values[threadIdx.x - reach] : 0;                        \
    __syncthreads();                                                                             \
    values[threadIdx.x] += earlier;                                                              \
  }                                                                                              \
  __syncthreads()

// Second, a block for each value: how often it stands in the tiles before each, and in all: `totals` (256).
KERNEL scan_counts(u32 *counts, u32 *totals, u32 tiles) {
  __shared__ u32 sums[THREADS];
  u32 *of_value = counts + blockIdx.x * tiles;
  u32 before = 0;
  for (u32 start = 0; start < tiles; start += THREADS) {
    u32 tile = start + threadIdx.x;
    u32 here = tile < tiles ? of_value[tile] : 0;
    sums[threadIdx.x] = here;
    BLOCK_SCAN(sums);
    if (tile < tiles) of_value[tile] = before + sums[threadIdx.x] - here;
    before += sums[THREADS - 1];
    __syncthreads();
  }
  if (threadIdx.x == 0) totals[blockIdx.x] = before;
}

// Third, every key and its place to where they belong: after all lower values and the tiles before. Thread d moves those of
// value d, in their order. On the `first` pass a key's place is where it stands.
KERNEL move_keys(const u32 *keys, const u32 *places, const u32 *counts, const u32 *totals, u32 *moved_keys,
                 u32 *moved_places, u32 count, u32 shift, u32 first) {
  __shared__ u32 tile[TILE];
  __shared__ u32 sums[THREADS];
  u32 start = blockIdx.x * TILE;
  u32 here = count - start < TILE ? count - start : TILE;
  for (u32 i = threadIdx.x; i < here; i += THREADS) tile[i] = keys[start + i];
  sums[threadIdx.x] = totals[threadIdx.x];
  BLOCK_SCAN(sums);
  u32 next = sums[threadIdx.x] - totals[threadIdx.x] + counts[threadIdx.x * gridDim.x + blockIdx.x];
  for (u32 i = 0; i < here; i++) {
    if (((tile[i] >> shift) & 255u) == threadIdx.x) {
      moved_keys[next] = tile[i];
      moved_places[next] = first ? start + i : places[start + i];
      next++;
    }
  }
}

// Row `key` of `sums` `(rows, hidden)`, zero before: the rows of `g` `(count, hidden)` at the places of that key, added in
// their order. `lanes` threads for each sorted key, THREADS at most; those of the first of equal ones do the work.
// Twin: `embedding::gradient`.
KERNEL segment_sum(const float *g, const u32 *keys, const u32 *places, float *sums, u32 count, u32 hidden, u32 lanes) {
  u32 each = THREADS / lanes, group = threadIdx.x / lanes;
  u32 first = blockIdx.x * each + group;
  if (group >= each || first >= count) return;
  u32 key = keys[first];
  if (first > 0 && keys[first - 1] == key) return;
  // The end of its run, by steps twice as long and then by halves: a popular item's is long.
  u32 end = first + 1, reach = 1;
  while (reach <= count - end && keys[end + reach - 1] == key) {
    end += reach;
    reach *= 2;
  }
  for (; reach > 0; reach /= 2) {
    if (reach <= count - end && keys[end + reach - 1] == key) end += reach;
  }
  for (u32 column = threadIdx.x % lanes; column < hidden; column += lanes) {
    float sum = 0.0f;
    for (u32 start = first; start < end; start += 2 * AT_ONCE) {
      float rows_here[2 * AT_ONCE];
#pragma unroll
      for (u32 i = 0; i < 2 * AT_ONCE; i++) {
        rows_here[i] = start + i < end ? g[(u64)places[start + i] * hidden + column] : 0.0f;
      }
#pragma unroll
      for (u32 i = 0; i < 2 * AT_ONCE; i++) {
        if (start + i < end) sum += rows_here[i];
      }
    }
    sums[(u64)key * hidden + column] = sum;
  }
}

// Ascends in the order of the lists: higher scores first, then lower ids; what is no number, last. Twin: `top_k::order_key`.
FUNCTION u64 order_key(float score, u32 id) {
  union { float number; u32 bits; } of;
  of.number = score + 0.0f; // -0 ties with +0
  u32 bits = score == score ? of.bits : 0xff800000u;
  u32 ascending = bits >> 31 ? ~bits : bits | 0x80000000u;
  return ((u64)~ascending << 32) | id;
}

// Runs the statement with every `score` of a row and its `column`, shared among the threads of a block.
#define EACH_SCORE(row, columns, statement)                                                      \
  for (u32 start = threadIdx.x; start < columns; start += AT_ONCE * THREADS) {                   \
    float scores_here[AT_ONCE];                                                                  \
    for (u32 i = 0; i < AT_ONCE; i++) {                                                          \
      u32 column = start + i * THREADS;                                                          \
      scores_here[i] = column < columns ? row[column] : 0.0f;                                    \
    }                                                                                            \
    for (u32 i = 0; i < AT_ONCE; i++) {                                                          \
      u32 column = start + i * THREADS;                                                          \
      float score = scores_here[i];                                                              \
      if (column < columns) statement                                                            \
    }                                                                                            \
  }

// Sorts `length` keys, a power of two, by one block: runs of `run` keys, alternately up and down, become runs twice as long.
FUNCTION void sort_keys(u64 *keys, u32 length) {
  for (u32 run = 2; run <= length; run *= 2) {
    for (u32 apart = run / 2; apart > 0; apart /= 2) {
      __syncthreads();
      for (u32 i = threadIdx.x; i < length; i += THREADS) {
        u32 other = i ^ apart;
        if (other > i) {
          u64 a = keys[i], b = keys[other];
          if ((a > b) == ((i & run) == 0)) {
            keys[i] = b;
            keys[other] = a;
          }
        }
      }
    }
  }
  __syncthreads();
}

// The ids, from 1, of the `k` best of each row's `columns` scores, best first: ids `(rows, k)`. A block for each row.
// Twin: `top_k::best`.
//
// No key beyond the k-th of the threads' own bests can be of the list, and few are up to it: these are collected and sorted.
// Where they are too many, or the list is longer than there are threads, the k-th key is first narrowed down eight bits at
// a time.
KERNEL top_k(const float *scores, u32 *ids, u32 columns, u32 k) {
  __shared__ u32 histogram[256];
  __shared__ u64 best[LONGEST];
  __shared__ u64 prefix; // of the k-th key, as far as it is known
  __shared__ u32 left;   // rank of the k-th key among those of that prefix, from 1
  __shared__ u32 shift;  // of the known bits
  __shared__ u32 filled;
  const float *row = scores + (u64)blockIdx.x * columns;
  u32 found = LONGEST + 1;
  if (k <= THREADS) {
    u64 first = ~(u64)0;
    EACH_SCORE(row, columns, {
      u64 key = order_key(score, column + 1);
      first = key < first ? key : first;
    })
    best[threadIdx.x] = first;
    if (threadIdx.x == 0) filled = 0;
    sort_keys(best, THREADS);
    u64 bound = best[k - 1];
    __syncthreads();
    EACH_SCORE(row, columns, {
      u64 key = order_key(score, column + 1);
      if (key <= bound) {
        u32 place = atomicAdd(&filled, 1u);
        if (place < LONGEST) best[place] = key;
      }
    })
    __syncthreads();
    found = filled;
    __syncthreads();
  }
  if (found > LONGEST) {
    if (threadIdx.x == 0) {
      prefix = 0;
      left = k;
      shift = 64;
      filled = 0;
    }
    for (;;) {
      histogram[threadIdx.x] = 0;
      __syncthreads();
      u32 known = shift;
      u64 begins = prefix;
      EACH_SCORE(row, columns, {
        u64 key = order_key(score, column + 1);
        if (known == 64 || key >> known == begins >> known) atomicAdd(&histogram[(key >> (known - 8)) & 255u], 1u);
      })
      __syncthreads();
      if (threadIdx.x == 0) {
        u32 digit = 0;
        while (histogram[digit] < left) left -= histogram[digit++];
        prefix |= (u64)digit << (known - 8);
        // Where all keys of that prefix are wanted, the rest of it does not matter. Keys differ: at 0 bits it is so.
        shift = histogram[digit] == left ? 0 : known - 8;
        if (shift == 0) prefix |= ((u64)1 << (known - 8)) - 1;
      }
      __syncthreads();
      if (shift == 0) break;
    }
    u64 last = prefix;
    EACH_SCORE(row, columns, {
      u64 key = order_key(score, column + 1);
      if (key <= last) best[atomicAdd(&filled, 1u)] = key;
    })
    found = k;
  }
  u32 length = 1;
  while (length < found) length *= 2;
  for (u32 i = found + threadIdx.x; i < length; i += THREADS) best[i] = ~(u64)0;
  sort_keys(best, length);
  for (u32 i = threadIdx.x; i < k; i += THREADS) ids[(u64)blockIdx.x * k + i] = (u32)best[i];
}

// The ids, from 1, of the best and of the worst of each row's `columns` scores: ids `(rows, 2)`. A block for each row. What is
// no number is neither. Twin: `extremes::plain`.
KERNEL extremes(const float *scores, u32 *ids, u32 columns) {
  __shared__ u64 firsts[THREADS];
  __shared__ u64 lasts[THREADS];
  const float *row = scores + (u64)blockIdx.x * columns;
  u64 first = ~(u64)0;
  u64 last = first;
  EACH_SCORE(row, columns, {
    u64 key = order_key(score, column + 1);
    u64 turned = order_key(-score, column + 1);
    first = key < first ? key : first;
    last = turned < last ? turned : last;
  })
  firsts[threadIdx.x] = first;
  lasts[threadIdx.x] = last;
  for (u32 apart = THREADS / 2; apart > 0; apart /= 2) {
    __syncthreads();
    if (threadIdx.x < apart) {
      u64 other = firsts[threadIdx.x + apart];
      if (other < firsts[threadIdx.x]) firsts[threadIdx.x] = other;
      other = lasts[threadIdx.x + apart];
      if (other < lasts[threadIdx.x]) lasts[threadIdx.x] = other;
    }
  }
  if (threadIdx.x == 0) {
    ids[2 * blockIdx.x] = (u32)firsts[0];
    ids[2 * blockIdx.x + 1] = (u32)lasts[0];
  }
}

// Sums `values`, one of each thread of a block, pair by pair, into the first.
#define BLOCK_SUM(values)                                                                        \
  for (u32 apart = THREADS / 2; apart > 0; apart /= 2) {                                         \
    __syncthreads();                                                                             \
    if (threadIdx.x < apart) values[threadIdx.x] += values[threadIdx.x + apart];                 \
  }                                                                                              \
  __syncthreads()

// The cross entropy of each row of `scores` (rows, columns) under its target, into `losses`, and the gradient of `share` times
// that in the scores' place. A block for each row. Twin: `cross_entropy::softmax_loss`, but for rounding.
KERNEL softmax_loss(float *scores, const u32 *targets, float *losses, float share, u32 columns) {
  __shared__ float values[THREADS];
  float *row = scores + (u64)blockIdx.x * columns;
  u32 target = targets[blockIdx.x];
  float at_target = target < columns ? row[target] : NAN; // a loss that tells of the mistake
  float most = -INFINITY;
  EACH_SCORE(row, columns, { most = score > most ? score : most; })
  values[threadIdx.x] = most;
  for (u32 apart = THREADS / 2; apart > 0; apart /= 2) {
    __syncthreads();
    if (threadIdx.x < apart && values[threadIdx.x + apart] > values[threadIdx.x]) {
      values[threadIdx.x] = values[threadIdx.x + apart];
    }
  }
  __syncthreads();
  most = values[0];
  __syncthreads();
  float sum = 0.0f;
  EACH_SCORE(row, columns, { sum += expf(score - most); })
  values[threadIdx.x] = sum;
  BLOCK_SUM(values);
  float total = values[0];
  float scale = share / total;
  EACH_SCORE(row, columns, { row[column] = expf(score - most) * scale - (column == target ? share : 0.0f); })
  if (threadIdx.x == 0) losses[blockIdx.x] = logf(total) - (at_target - most);
}

// The squares of a gradient's `count` elements, summed in so many parts as there are blocks, THREADS at most.
KERNEL square_sums(const float *grad, float *parts, u32 count) {
  __shared__ float sums[THREADS];
  float sum = 0.0f;
  for (u32 i = blockIdx.x * THREADS + threadIdx.x; i < count; i += gridDim.x * THREADS) sum += grad[i] * grad[i];
  sums[threadIdx.x] = sum;
  BLOCK_SUM(sums);
  if (threadIdx.x == 0) parts[blockIdx.x] = sums[0];
}

// One step of AdamW: both moments and the parameter, in place, from the gradient, clipped by the norm whose square is the
// sum of its `part_count` parts; without parts, not clipped. Twin: `adamw::fused`, whose norm may round otherwise.
KERNEL adamw(float *param, float *first, float *second, const float *grad, const float *parts, u32 count, u32 part_count,
             float clip_norm, float kept1, float taken1, float kept2, float taken2, float keep, float rate, float root,
             float epsilon) {
  __shared__ float sums[THREADS];
  sums[threadIdx.x] = threadIdx.x < part_count ? parts[threadIdx.x] : 0.0f;
  BLOCK_SUM(sums);
  float clip = 1.0f;
  if (part_count > 0) {
    float most = clip_norm / (sqrtf(sums[0]) + 1e-6f);
    clip = most < 1.0f ? most : 1.0f;
  }
  for (u32 i = blockIdx.x * THREADS + threadIdx.x; i < count; i += gridDim.x * THREADS) {
    float g = grad[i] * clip;
    float m = first[i] * kept1 + g * taken1;
    float v = second[i] * kept2 + g * g * taken2;
    first[i] = m;
    second[i] = v;
    param[i] = param[i] * keep - rate * (m / (sqrtf(v) * root + epsilon));
  }
}

FUNCTION float sigmoid(float x) {
  return 1.0f / (1.0f + expf(-x));
}

// The states of a GRU after each token, `y` (tokens, hidden), from its input's share of the gates, `x` (tokens, 3 hidden).
// `transposed` is its weight as (hidden, 3 hidden). A block for each row, which begins at the token in `starts`.
// Twin: `gru::Gru::forward`, but for rounding.
KERNEL gru_states(const float *x, const float *transposed, const float *bias, const u32 *starts, float *y, u32 hidden) {
  __shared__ float state[WIDEST];
  __shared__ float products[3 * WIDEST];
  u32 width = 3 * hidden;
  for (u32 unit = threadIdx.x; unit < hidden; unit += blockDim.x) state[unit] = 0.0f;
  for (u32 token = starts[blockIdx.x]; token < starts[blockIdx.x + 1]; token++) {
    __syncthreads();
    for (u32 gate = threadIdx.x; gate < width; gate += blockDim.x) {
      float sum = 0.0f;
      for (u32 unit = 0; unit < hidden; unit++) sum = fmaf(state[unit], transposed[unit * width + gate], sum);
      products[gate] = sum + bias[gate];
    }
    __syncthreads();
    const float *shares = x + (u64)token * width;
    for (u32 unit = threadIdx.x; unit < hidden; unit += blockDim.x) {
      float r = sigmoid(shares[unit] + products[unit]);
      float z = sigmoid(shares[hidden + unit] + products[hidden + unit]);
      float n = tanhf(fmaf(r, products[2 * hidden + unit], shares[2 * hidden + unit]));
      state[unit] = fmaf(z, state[unit] - n, n);
      y[(u64)token * hidden + unit] = state[unit];
    }
  }
}

// The gradients of the same: `dx` of x, and `da` of the state's share of the gates, which was `a`; both (tokens, 3 hidden).
// `g` (tokens, hidden) is that of the states, `previous` the states before. Twin: `gru::step_backward`, but for rounding.
KERNEL gru_gradients(const float *g, const float *x, const float *a, const float *previous, const float *weight,
                     const u32 *starts, float *dx, float *da, u32 hidden) {
  __shared__ float carry[WIDEST];
  __shared__ float factors[3 * WIDEST];
  __shared__ float shares[3 * WIDEST];
  u32 width = 3 * hidden;
  for (u32 unit = threadIdx.x; unit < hidden; unit += blockDim.x) carry[unit] = 0.0f;
  for (u32 token = starts[blockIdx.x + 1]; token-- > starts[blockIdx.x];) {
    u64 here = (u64)token * width;
    for (u32 unit = threadIdx.x; unit < hidden; unit += blockDim.x) {
      float of_n = a[here + 2 * hidden + unit];
      float r = sigmoid(x[here + unit] + a[here + unit]);
      float z = sigmoid(x[here + hidden + unit] + a[here + hidden + unit]);
      float n = tanhf(fmaf(r, of_n, x[here + 2 * hidden + unit]));
      float whole = carry[unit] + g[(u64)token * hidden + unit];
      float dn = whole * (1.0f - z) * (1.0f - n * n);
      float dz = whole * (previous[(u64)token * hidden + unit] - n) * (z * (1.0f - z));
      float dr = dn * of_n * (r * (1.0f - r));
      dx[here + unit] = da[here + unit] = factors[unit] = dr;
      dx[here + hidden + unit] = da[here + hidden + unit] = factors[hidden + unit] = dz;
      dx[here + 2 * hidden + unit] = dn;
      da[here + 2 * hidden + unit] = factors[2 * hidden + unit] = dn * r;
      carry[unit] = whole * z;
    }
    __syncthreads();
    // The three gates' parts of the product with the weight, side by side.
    for (u32 part = threadIdx.x; part < width; part += blockDim.x) {
      u32 first = part / hidden * hidden;
      float sum = 0.0f;
      for (u32 gate = first; gate < first + hidden; gate++) {
        sum = fmaf(factors[gate], weight[gate * hidden + part - first], sum);
      }
      shares[part] = sum;
    }
    __syncthreads();
    for (u32 unit = threadIdx.x; unit < hidden; unit += blockDim.x) {
      carry[unit] += shares[unit] + shares[hidden + unit] + shares[2 * hidden + unit];
    }
  }
}

// Adds `bias` to each of the rows of `y` (rows, width), `count` elements.
KERNEL add_bias(float *y, const float *bias, u32 width, u32 count) {
  for (u32 i = blockIdx.x * THREADS + threadIdx.x; i < count; i += gridDim.x * THREADS) y[i] += bias[i % width];
}

// Sums of the columns of `x` (rows, width): a block for each `each` rows, its sums a row of `parts`.
KERNEL column_parts(const float *x, float *parts, u32 rows, u32 width, u32 each) {
  u32 start = blockIdx.x * each;
  u32 end = rows - start < each ? rows : start + each;
  for (u32 column = threadIdx.x; column < width; column += blockDim.x) {
    float sum = 0.0f;
    for (u32 row = start; row < end; row++) sum += x[(u64)row * width + column];
    parts[(u64)blockIdx.x * width + column] = sum;
  }
}

// The sums of the columns of few rows, one column a block.
KERNEL add_columns(const float *parts, float *sums, u32 rows, u32 width) {
  __shared__ float values[THREADS];
  float sum = 0.0f;
  for (u32 row = threadIdx.x; row < rows; row += THREADS) sum += parts[(u64)row * width + blockIdx.x];
  values[threadIdx.x] = sum;
  BLOCK_SUM(values);
  if (threadIdx.x == 0) sums[blockIdx.x] = values[0];
}

#define LANES 32u // threads that share a row in the kernels below, eight rows a block

// Sums `values`, one of each lane, into those of the first lanes; `values[threadIdx.x - lane]` is then the row's.
#define ROW_SUM(values)                                                                          \
  for (u32 apart = LANES / 2; apart > 0; apart /= 2) {                                           \
    __syncthreads();                                                                             \
    if (lane < apart) values[threadIdx.x] += values[threadIdx.x + apart];                        \
  }                                                                                              \
  __syncthreads()

// Rows of `x` (rows, hidden), less their mean, over their sample deviation plus 1e-6, times `weight`, plus `bias`.
// Twin: `norm::forward`, but for rounding.
KERNEL normalise(const float *x, const float *weight, const float *bias, float *y, u32 rows, u32 hidden) {
  __shared__ float values[THREADS];
  u32 lane = threadIdx.x % LANES, row = blockIdx.x * (THREADS / LANES) + threadIdx.x / LANES;
  u32 width = row < rows ? hidden : 0; // the threads without a row only meet the others at the barriers
  const float *of = x + (u64)row * hidden;
  float sum = 0.0f;
  for (u32 i = lane; i < width; i += LANES) sum += of[i];
  values[threadIdx.x] = sum;
  ROW_SUM(values);
  float mean = values[threadIdx.x - lane] / (float)hidden;
  __syncthreads();
  sum = 0.0f;
  for (u32 i = lane; i < width; i += LANES) sum = fmaf(of[i] - mean, of[i] - mean, sum);
  values[threadIdx.x] = sum;
  ROW_SUM(values);
  float scale = 1.0f / (sqrtf(values[threadIdx.x - lane] / (float)(hidden - 1)) + 1e-6f);
  for (u32 i = lane; i < width; i += LANES) y[(u64)row * hidden + i] = fmaf((of[i] - mean) * scale, weight[i], bias[i]);
}

// The gradients of the same: `dx` of x, and for each eighth of a block, which takes `each` rows, a row of `parts`
// (parts, 2 hidden) with its share of those of weight and bias. Twin: `norm::backward`, but for rounding.
KERNEL normalise_gradients(const float *g, const float *x, const float *weight, float *dx, float *parts, u32 rows,
                           u32 hidden, u32 each) {
  __shared__ float values[THREADS];
  __shared__ float others[THREADS];
  u32 lane = threadIdx.x % LANES, part = blockIdx.x * (THREADS / LANES) + threadIdx.x / LANES;
  float *of_weight = parts + (u64)part * 2 * hidden;
  for (u32 i = lane; i < 2 * hidden; i += LANES) of_weight[i] = 0.0f;
  for (u32 step = 0; step < each; step++) {
    u32 row = part * each + step;
    u32 width = row < rows ? hidden : 0;
    u64 start = (u64)row * hidden;
    float sum = 0.0f, whole = 0.0f;
    for (u32 i = lane; i < width; i += LANES) {
      sum += x[start + i];
      whole += g[start + i] * weight[i];
    }
    values[threadIdx.x] = sum;
    others[threadIdx.x] = whole;
    ROW_SUM(values);
    ROW_SUM(others);
    float mean = values[threadIdx.x - lane] / (float)hidden;
    float mean_gradient = others[threadIdx.x - lane] / (float)hidden;
    __syncthreads();
    sum = 0.0f;
    whole = 0.0f;
    for (u32 i = lane; i < width; i += LANES) {
      float centred = x[start + i] - mean;
      sum = fmaf(centred, centred, sum);
      whole = fmaf(g[start + i] * weight[i], centred, whole);
    }
    values[threadIdx.x] = sum;
    others[threadIdx.x] = whole;
    ROW_SUM(values);
    ROW_SUM(others);
    float deviation = sqrtf(values[threadIdx.x - lane] / (float)(hidden - 1));
    float scale = 1.0f / (deviation + 1e-6f);
    float through = deviation > 0.0f ? others[threadIdx.x - lane] * scale * scale / ((float)(hidden - 1) * deviation) : 0.0f;
    for (u32 i = lane; i < width; i += LANES) {
      float centred = x[start + i] - mean;
      dx[start + i] = fmaf(g[start + i] * weight[i] - mean_gradient, scale, -through * centred);
      of_weight[i] = fmaf(g[start + i] * scale, centred, of_weight[i]);
      of_weight[hidden + i] += g[start + i];
    }
    __syncthreads();
  }
}

// The tokens of ragged rows, (tokens, heads * size), as heads of rows padded with zeros to the `longest`,
// (rows, heads, longest, size); row r has the tokens from `starts[r]` on. With `back`, the other way: `tokens` from `padded`.
KERNEL pad_heads(float *tokens, float *padded, const u32 *starts, u32 heads, u32 longest, u32 size, u32 back, u32 count) {
  for (u32 i = blockIdx.x * THREADS + threadIdx.x; i < count; i += gridDim.x * THREADS) {
    u32 place = i / size % longest, head = i / size / longest % heads, row = i / size / longest / heads;
    u32 start = starts[row];
    int real = place < starts[row + 1] - start;
    u64 token = (u64)(start + place) * heads * size + head * size + i % size;
    if (!back) padded[i] = real ? tokens[token] : 0.0f;
    else if (real) tokens[token] = padded[i];
  }
}

// The probabilities of scores (parts * queries, keys): the softmax of `scale` times the first `visible` keys of each query,
// times its dropout factors; 0 for the other keys. `sharers` parts, the heads of a row, share `visible` (parts / sharers,
// queries) and the `lengths` that number the mask. With `g`, the gradient of the scores from that of the probabilities.
KERNEL attend(const float *scores, const float *g, float *y, const u32 *visible, const u32 *lengths, float scale, u64 key,
              u32 threshold, float kept, u32 rows, u32 sharers, u32 queries, u32 keys) {
  __shared__ float values[THREADS];
  u32 lane = threadIdx.x % LANES, row = blockIdx.x * (THREADS / LANES) + threadIdx.x / LANES;
  u32 part = row / queries, query = row % queries;
  u32 seen = row < rows ? visible[part / sharers * queries + query] : 0;
  u32 first = row < rows ? query * lengths[part / sharers] : 0;
  u64 mask = mask_of(key, part), start = (u64)row * keys;
  float most = -3.0e38f;
  for (u32 i = lane; i < seen; i += LANES) most = fmaxf(most, scores[start + i] * scale);
  values[threadIdx.x] = most;
  for (u32 apart = LANES / 2; apart > 0; apart /= 2) {
    __syncthreads();
    if (lane < apart) values[threadIdx.x] = fmaxf(values[threadIdx.x], values[threadIdx.x + apart]);
  }
  __syncthreads();
  most = values[threadIdx.x - lane];
  __syncthreads();
  float sum = 0.0f;
  for (u32 i = lane; i < seen; i += LANES) sum += expf(scores[start + i] * scale - most);
  values[threadIdx.x] = sum;
  ROW_SUM(values);
  float share = 1.0f / values[threadIdx.x - lane];
  __syncthreads();
  float through = 0.0f;
  for (u32 i = lane; g && i < seen; i += LANES) {
    float factor = threshold > 0 ? factor_at(mask, first + i, threshold, kept) : 1.0f;
    through = fmaf(expf(scores[start + i] * scale - most) * share, g[start + i] * factor, through);
  }
  values[threadIdx.x] = through;
  ROW_SUM(values);
  through = values[threadIdx.x - lane];
  for (u32 i = lane; row < rows && i < keys; i += LANES) {
    float factor = threshold > 0 ? factor_at(mask, first + i, threshold, kept) : 1.0f;
    float p = i < seen ? expf(scores[start + i] * scale - most) * share : 0.0f;
    y[start + i] = g ? p * (g[start + i] * factor - through) * scale : p * factor;
  }
}

#define MOST_KEYS 2048u // of a row, in the two kernels below

// NARM's attention of one query a block over the `visible[query]` tokens from `firsts[query]` on: `probabilities`
// (queries, longest), 0 for the others, and their weighted sum of the values. A token's key and value stand side by side,
// (tokens, width + hidden). Twin: `additive_attention`, but for rounding.
KERNEL add_attend(const float *query, const float *keys, const float *v, const u32 *firsts, const u32 *visible,
                  float *probabilities, float *y, u32 width, u32 hidden, u32 longest) {
  const float *tokens = keys + width;
  u32 stride = width + hidden;
  __shared__ float values[THREADS];
  __shared__ float scores[MOST_KEYS];
  u32 seen = visible[blockIdx.x], lane = threadIdx.x % LANES;
  u64 first = firsts[blockIdx.x];
  const float *of = query + (u64)blockIdx.x * width;
  for (u32 before = 0; before < seen; before += THREADS / LANES) {
    u32 key = before + threadIdx.x / LANES;
    float sum = 0.0f;
    for (u32 i = lane; key < seen && i < width; i += LANES) {
      float inner = (of[i] + keys[(first + key) * stride + i]) * (1.0f / 6.0f) + 0.5f;
      sum = fmaf(v[i], fminf(fmaxf(inner, 0.0f), 1.0f), sum);
    }
    values[threadIdx.x] = sum;
    ROW_SUM(values);
    if (lane == 0 && key < seen) scores[key] = values[threadIdx.x];
    __syncthreads();
  }
  float most = -3.0e38f;
  for (u32 i = threadIdx.x; i < seen; i += THREADS) most = fmaxf(most, scores[i]);
  values[threadIdx.x] = most;
  for (u32 apart = THREADS / 2; apart > 0; apart /= 2) {
    __syncthreads();
    if (threadIdx.x < apart) values[threadIdx.x] = fmaxf(values[threadIdx.x], values[threadIdx.x + apart]);
  }
  __syncthreads();
  most = values[0];
  __syncthreads();
  float sum = 0.0f;
  for (u32 i = threadIdx.x; i < seen; i += THREADS) {
    scores[i] = expf(scores[i] - most);
    sum += scores[i];
  }
  values[threadIdx.x] = sum;
  BLOCK_SUM(values);
  float share = 1.0f / values[0];
  for (u32 i = threadIdx.x; i < longest; i += THREADS) {
    float p = i < seen ? scores[i] * share : 0.0f;
    probabilities[(u64)blockIdx.x * longest + i] = p;
    if (i < seen) scores[i] = p;
  }
  __syncthreads();
  for (u32 unit = threadIdx.x; unit < hidden; unit += THREADS) {
    float total = 0.0f;
    for (u32 i = 0; i < seen; i++) total = fmaf(scores[i], tokens[(first + i) * stride + unit], total);
    y[(u64)blockIdx.x * hidden + unit] = total;
  }
}

// The gradients that meet at a query of the same: `ds` (queries, longest) of the scores, `dq` (queries, width), and its share
// of that of `v`, a row of `dv` (queries, width).
KERNEL add_attend_queries(const float *g, const float *query, const float *keys, const float *v, const u32 *firsts,
                          const u32 *visible, const float *probabilities, float *ds, float *dq, float *dv, u32 width,
                          u32 hidden, u32 longest) {
  const float *tokens = keys + width;
  u32 stride = width + hidden;
  __shared__ float values[THREADS];
  __shared__ float scores[MOST_KEYS];
  u32 seen = visible[blockIdx.x], lane = threadIdx.x % LANES;
  u64 first = firsts[blockIdx.x];
  const float *p = probabilities + (u64)blockIdx.x * longest;
  for (u32 before = 0; before < seen; before += THREADS / LANES) {
    u32 key = before + threadIdx.x / LANES;
    float sum = 0.0f;
    for (u32 i = lane; key < seen && i < hidden; i += LANES) {
      sum = fmaf(g[(u64)blockIdx.x * hidden + i], tokens[(first + key) * stride + i], sum);
    }
    values[threadIdx.x] = sum;
    ROW_SUM(values);
    if (lane == 0 && key < seen) scores[key] = values[threadIdx.x];
    __syncthreads();
  }
  float sum = 0.0f;
  for (u32 i = threadIdx.x; i < seen; i += THREADS) sum = fmaf(p[i], scores[i], sum);
  values[threadIdx.x] = sum;
  BLOCK_SUM(values);
  float through = values[0];
  for (u32 i = threadIdx.x; i < longest; i += THREADS) {
    float of_score = i < seen ? p[i] * (scores[i] - through) : 0.0f;
    ds[(u64)blockIdx.x * longest + i] = of_score;
    if (i < seen) scores[i] = of_score;
  }
  __syncthreads();
  for (u32 unit = threadIdx.x; unit < width; unit += THREADS) {
    float of_query = 0.0f, of_v = 0.0f;
    for (u32 i = 0; i < seen; i++) {
      float inner = (query[(u64)blockIdx.x * width + unit] + keys[(first + i) * stride + unit]) * (1.0f / 6.0f) + 0.5f;
      of_v = fmaf(scores[i], fminf(fmaxf(inner, 0.0f), 1.0f), of_v);
      if (inner > 0.0f && inner < 1.0f) of_query += scores[i];
    }
    dq[(u64)blockIdx.x * width + unit] = of_query * v[unit] * (1.0f / 6.0f);
    dv[(u64)blockIdx.x * width + unit] = of_v;
  }
}

// Those that meet at a token, `dk` (tokens, width + hidden): of its key and its value. A block for each token, which is the
// `places[token]`-th key of its row; the row's queries are those from `starts[token]` to `ends[token]`.
KERNEL add_attend_keys(const float *g, const float *query, const float *keys, const float *v, const float *probabilities,
                       const float *ds, const u32 *places, const u32 *starts, const u32 *ends, float *dk,
                       u32 width, u32 hidden, u32 longest) {
  u32 stride = width + hidden;
  u64 token = blockIdx.x;
  u32 place = places[token], start = starts[token], end = ends[token];
  for (u32 unit = threadIdx.x; unit < width; unit += THREADS) {
    float sum = 0.0f;
    for (u32 i = start; i < end; i++) {
      float inner = (query[(u64)i * width + unit] + keys[token * stride + unit]) * (1.0f / 6.0f) + 0.5f;
      if (inner > 0.0f && inner < 1.0f) sum += ds[(u64)i * longest + place];
    }
    dk[token * stride + unit] = sum * v[unit] * (1.0f / 6.0f);
  }
  for (u32 unit = threadIdx.x; unit < hidden; unit += THREADS) {
    float sum = 0.0f;
    for (u32 i = start; i < end; i++) sum = fmaf(probabilities[(u64)i * longest + place], g[(u64)i * hidden + unit], sum);
    dk[token * stride + width + unit] = sum;
  }
}
