// Runs the kernels on the CPU: blocks one after another, the threads of a block in turn, from barrier to barrier. A program
// for a test, which names a kernel and its launch, writes its arguments to standard input and reads its buffers from
// standard output.
//
//   emulation ORDER KERNEL BLOCKS THREADS ARGUMENT...
//
// ORDER is `forward` or `backward`, in which blocks and threads take their turns: where a barrier is missing, one of the two
// reads what is not there yet, or is no longer.
//
// An argument is `u32:N`, `u64:N`, `f32:BITS`, `in:BYTES` or `out:BYTES`: the last two are buffers, read from standard input
// in this order; those of `out` are written back.

#include <math.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

struct dimension { unsigned int x; };
static struct dimension blockIdx, threadIdx, blockDim, gridDim;

enum { STACK = 1 << 16, MOST = 1024 };
static int finished[MOST];
static unsigned int current;

// A thread begins as a context, which has a stack of its own. From then on turns are jumps: a context's turn is a system call.
static ucontext_t beginning, contexts[MOST];
static jmp_buf scheduler, threads[MOST];
static int begun[MOST];

static void __syncthreads(void) {
  if (!_setjmp(threads[current])) _longjmp(scheduler, 1);
}
static unsigned int atomicAdd(unsigned int *place, unsigned int more) {
  unsigned int before = *place;
  *place += more;
  return before;
}

#define KERNEL static void
#define FUNCTION static
#define __shared__ static
#include "kernels.cu"

static union { unsigned int u; unsigned long long l; float f; void *p; } a[16];

static void call(const char *name) {
  if (!strcmp(name, "dropout_factors"))
    dropout_factors(a[0].p, a[1].p, a[2].l, a[3].u, a[4].f, a[5].u, a[6].u, a[7].u, a[8].u);
  else if (!strcmp(name, "count_digits")) count_digits(a[0].p, a[1].p, a[2].u, a[3].u);
  else if (!strcmp(name, "scan_counts")) scan_counts(a[0].p, a[1].p, a[2].u);
  else if (!strcmp(name, "move_keys"))
    move_keys(a[0].p, a[1].p, a[2].p, a[3].p, a[4].p, a[5].p, a[6].u, a[7].u, a[8].u);
  else if (!strcmp(name, "segment_sum")) segment_sum(a[0].p, a[1].p, a[2].p, a[3].p, a[4].u, a[5].u, a[6].u);
  else if (!strcmp(name, "top_k")) top_k(a[0].p, a[1].p, a[2].u, a[3].u);
  else if (!strcmp(name, "extremes")) extremes(a[0].p, a[1].p, a[2].u);
  else if (!strcmp(name, "softmax_loss")) softmax_loss(a[0].p, a[1].p, a[2].p, a[3].f, a[4].u);
  else if (!strcmp(name, "square_sums")) square_sums(a[0].p, a[1].p, a[2].u);
  else if (!strcmp(name, "adamw"))
    adamw(a[0].p, a[1].p, a[2].p, a[3].p, a[4].p, a[5].u, a[6].u, a[7].f, a[8].f, a[9].f, a[10].f, a[11].f, a[12].f,
          a[13].f, a[14].f, a[15].f);
  else if (!strcmp(name, "gru_states")) gru_states(a[0].p, a[1].p, a[2].p, a[3].p, a[4].p, a[5].u);
  else if (!strcmp(name, "gru_gradients"))
    gru_gradients(a[0].p, a[1].p, a[2].p, a[3].p, a[4].p, a[5].p, a[6].p, a[7].p, a[8].u);
  else if (!strcmp(name, "drop_add")) drop_add(a[0].p, a[1].p, a[2].p, a[3].l, a[4].u, a[5].f, a[6].u);
  else if (!strcmp(name, "activate")) activate(a[0].p, a[1].p, a[2].p, a[3].u, a[4].u);
  else if (!strcmp(name, "add_bias")) add_bias(a[0].p, a[1].p, a[2].u, a[3].u);
  else if (!strcmp(name, "column_parts")) column_parts(a[0].p, a[1].p, a[2].u, a[3].u, a[4].u);
  else if (!strcmp(name, "add_columns")) add_columns(a[0].p, a[1].p, a[2].u, a[3].u);
  else if (!strcmp(name, "normalise")) normalise(a[0].p, a[1].p, a[2].p, a[3].p, a[4].u, a[5].u);
  else if (!strcmp(name, "normalise_gradients"))
    normalise_gradients(a[0].p, a[1].p, a[2].p, a[3].p, a[4].p, a[5].u, a[6].u, a[7].u);
  else if (!strcmp(name, "pad_heads")) pad_heads(a[0].p, a[1].p, a[2].p, a[3].u, a[4].u, a[5].u, a[6].u, a[7].u);
  else if (!strcmp(name, "attend"))
    attend(a[0].p, a[1].p, a[2].p, a[3].p, a[4].p, a[5].f, a[6].l, a[7].u, a[8].f, a[9].u, a[10].u, a[11].u, a[12].u);
  else if (!strcmp(name, "add_attend"))
    add_attend(a[0].p, a[1].p, a[2].p, a[3].p, a[4].p, a[5].p, a[6].p, a[7].u, a[8].u, a[9].u);
  else if (!strcmp(name, "add_attend_queries"))
    add_attend_queries(a[0].p, a[1].p, a[2].p, a[3].p, a[4].p, a[5].p, a[6].p, a[7].p, a[8].p, a[9].p, a[10].u, a[11].u,
                       a[12].u);
  else if (!strcmp(name, "add_attend_keys"))
    add_attend_keys(a[0].p, a[1].p, a[2].p, a[3].p, a[4].p, a[5].p, a[6].p, a[7].p, a[8].p, a[9].p, a[10].u, a[11].u,
                    a[12].u);
  else { fprintf(stderr, "no kernel %s\n", name); exit(2); }
}

static const char *kernel;
static void thread(void) {
  call(kernel);
  finished[current] = 1;
  _longjmp(scheduler, 1);
}

// The current thread's next turn.
static void resume(void) {
  if (_setjmp(scheduler)) return;
  if (begun[current]) _longjmp(threads[current], 1);
  begun[current] = 1;
  setcontext(&contexts[current]);
}

int main(int count, char **words) {
  static char stacks[MOST][STACK];
  int backward = !strcmp(words[1], "backward");
  kernel = words[2];
  gridDim.x = (unsigned int)atoi(words[3]);
  blockDim.x = (unsigned int)atoi(words[4]);
  size_t sizes[16] = {0};
  int back[16] = {0};
  for (int i = 5; i < count; i++) {
    char *value = strchr(words[i], ':') + 1;
    int at = i - 5;
    if (!strncmp(words[i], "u32", 3) || !strncmp(words[i], "f32", 3)) a[at].u = (unsigned int)strtoul(value, 0, 10);
    else if (!strncmp(words[i], "u64", 3)) a[at].l = strtoull(value, 0, 10);
    else {
      sizes[at] = strtoul(value, 0, 10);
      back[at] = words[i][0] == 'o';
      a[at].p = malloc(sizes[at] + 1);
      if (fread(a[at].p, 1, sizes[at], stdin) != sizes[at]) return 3;
    }
  }
  getcontext(&beginning);
  for (unsigned int block = 0; block < gridDim.x; block++) {
    blockIdx.x = backward ? gridDim.x - 1 - block : block;
    for (unsigned int i = 0; i < blockDim.x; i++) {
      finished[i] = begun[i] = 0;
      contexts[i] = beginning;
      contexts[i].uc_stack.ss_sp = stacks[i];
      contexts[i].uc_stack.ss_size = STACK;
      makecontext(&contexts[i], thread, 0);
    }
    for (unsigned int running = blockDim.x; running > 0;) {
      running = 0;
      for (unsigned int turn = 0; turn < blockDim.x; turn++) {
        current = backward ? blockDim.x - 1 - turn : turn;
        if (finished[current]) continue;
        threadIdx.x = current;
        resume();
        running += !finished[current];
      }
    }
  }
  for (int i = 0; i < 16; i++)
    if (back[i]) fwrite(a[i].p, 1, sizes[i], stdout);
  return 0;
}
