// The operations that candle has no good CUDA kernel for. Each has a CPU twin in Rust, named beside it, that gives the same
// bytes. The code keeps to what C and CUDA C++ have in common, so that a test can run it on the CPU, thread by thread
// (`emulation.c`): there is no GPU where the tests run.

#ifdef __CUDACC__
#define KERNEL extern "C" __global__ void
#endif

typedef unsigned int u32;
typedef unsigned long long u64;

#define THREADS 256u // of every block below, but for segment_sum's
#define TILE 2048u   // keys that a block sorts
#define LONGEST 2048u // list of top_k: what fits into shared memory

// Dropout factors of `parts` blocks of `rows` x `width` elements, 0 or `scale`. Part p has its own mask over its first
// `lengths[p / sharers]` columns. Twin: `dropout::Mask::factor`.
KERNEL dropout_factors(float *factors, const u32 *lengths, u64 key, u32 threshold, float scale, u32 parts, u32 sharers,
                       u32 rows, u32 width) {
  u64 index = (u64)blockIdx.x * blockDim.x + threadIdx.x;
  u64 block = (u64)rows * width;
  if (index >= block * parts) return;
  u64 part = index / block;
  u32 row = (u32)(index % block / width);
  u32 column = (u32)(index % width);
  u64 bits = key + (part + 1) * 0x9e3779b97f4a7c15ull;
  bits = (bits ^ (bits >> 30)) * 0xbf58476d1ce4e5b9ull;
  bits = (bits ^ (bits >> 27)) * 0x94d049bb133111ebull;
  bits ^= bits >> 31;
  u32 place = row * lengths[part / sharers] + column;
  u32 hash = (place * 0x9e3779b1u) ^ (u32)bits;
  hash = (hash ^ (hash >> 16)) * 0x21f0aaadu;
  hash = ((hash ^ (hash >> 15)) + (u32)(bits >> 32)) * 0xd35a2d97u;
  hash = (hash ^ (hash >> 15)) * 0x85ebca6bu;
  hash ^= hash >> 16;
  factors[index] = hash >= threshold ? scale : 0.0f;
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

// Second, by one block: where the keys of each value and tile begin, the sums of all counts before.
KERNEL scan_counts(u32 *counts, u32 count) {
  __shared__ u32 sums[THREADS];
  u32 each = (count + THREADS - 1) / THREADS;
  u32 start = threadIdx.x * each;
  u32 sum = 0;
  for (u32 i = start; i < start + each && i < count; i++) sum += counts[i];
  sums[threadIdx.x] = sum;
  __syncthreads();
  for (u32 reach = 1; reach < THREADS; reach *= 2) {
    u32 before = threadIdx.x >= reach ? sums[threadIdx.x - reach] : 0;
    __syncthreads();
    sums[threadIdx.x] += before;
    __syncthreads();
  }
  u32 next = sums[threadIdx.x] - sum;
  for (u32 i = start; i < start + each && i < count; i++) {
    u32 here = counts[i];
    counts[i] = next;
    next += here;
  }
}

// Third, every key and its place to where they belong; thread d moves those of value d, in their order. On the `first`
// pass a key's place is where it stands.
KERNEL move_keys(const u32 *keys, const u32 *places, const u32 *starts, u32 *moved_keys, u32 *moved_places, u32 count,
                 u32 shift, u32 first) {
  __shared__ u32 tile[TILE];
  u32 start = blockIdx.x * TILE;
  u32 here = count - start < TILE ? count - start : TILE;
  for (u32 i = threadIdx.x; i < here; i += THREADS) tile[i] = keys[start + i];
  __syncthreads();
  u32 next = starts[threadIdx.x * gridDim.x + blockIdx.x];
  for (u32 i = 0; i < here; i++) {
    if (((tile[i] >> shift) & 255u) == threadIdx.x) {
      moved_keys[next] = tile[i];
      moved_places[next] = first ? start + i : places[start + i];
      next++;
    }
  }
}

// Row `key` of `sums` `(rows, hidden)`, zero before: the rows of `g` `(count, hidden)` at the places of that key, added in
// their order. A block for each sorted key; the first of equal ones does the work. Twin: `embedding::gradient`.
KERNEL segment_sum(const float *g, const u32 *keys, const u32 *places, float *sums, u32 count, u32 hidden) {
  u32 first = blockIdx.x;
  u32 key = keys[first];
  if (first > 0 && keys[first - 1] == key) return;
  for (u32 column = threadIdx.x; column < hidden; column += blockDim.x) {
    float sum = 0.0f;
    for (u32 i = first; i < count && keys[i] == key; i++) sum += g[(u64)places[i] * hidden + column];
    sums[(u64)key * hidden + column] = sum;
  }
}

// Ascends in the order of the lists: higher scores first, then lower ids; what is no number, last. Twin: `top_k::order_key`.
#ifdef __CUDACC__
__device__
#endif
static u64 order_key(float score, u32 id) {
  union { float number; u32 bits; } of;
  of.number = score + 0.0f; // -0 ties with +0
  u32 bits = score == score ? of.bits : 0xff800000u;
  u32 ascending = bits >> 31 ? ~bits : bits | 0x80000000u;
  return ((u64)~ascending << 32) | id;
}

// The ids, from 1, of the `k` best of each row's `columns` scores, best first: ids `(rows, k)`. A block for each row. Eight
// bits at a time it narrows down the key of the k-th best, then collects the keys up to it and sorts them.
// Twin: `top_k::best`.
KERNEL top_k(const float *scores, u32 *ids, u32 columns, u32 k) {
  __shared__ u32 histogram[256];
  __shared__ u64 best[LONGEST];
  __shared__ u64 prefix; // of the k-th key, as far as it is known
  __shared__ u32 left;   // rank of the k-th key among those of that prefix, from 1
  __shared__ u32 shift;  // of the known bits
  __shared__ u32 filled;
  const float *row = scores + (u64)blockIdx.x * columns;
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
    for (u32 column = threadIdx.x; column < columns; column += THREADS) {
      u64 key = order_key(row[column], column + 1);
      if (known == 64 || key >> known == begins >> known) atomicAdd(&histogram[(key >> (known - 8)) & 255u], 1u);
    }
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
  u32 length = 1;
  while (length < k) length *= 2;
  for (u32 column = threadIdx.x; column < columns; column += THREADS) {
    u64 key = order_key(row[column], column + 1);
    if (key <= last) best[atomicAdd(&filled, 1u)] = key;
  }
  for (u32 i = k + threadIdx.x; i < length; i += THREADS) best[i] = ~(u64)0;
  __syncthreads();
  // Bitonic: runs of `run` keys, alternately up and down, become runs twice as long.
  for (u32 run = 2; run <= length; run *= 2) {
    for (u32 apart = run / 2; apart > 0; apart /= 2) {
      for (u32 i = threadIdx.x; i < length; i += THREADS) {
        u32 other = i ^ apart;
        if (other > i) {
          u64 a = best[i], b = best[other];
          if ((a > b) == ((i & run) == 0)) {
            best[i] = b;
            best[other] = a;
          }
        }
      }
      __syncthreads();
    }
  }
  for (u32 i = threadIdx.x; i < k; i += THREADS) ids[(u64)blockIdx.x * k + i] = (u32)best[i];
}
