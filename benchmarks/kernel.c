// The CPU limit: iterative hard thresholding of a 4 x 3 softmax layer, and nothing else, for many trials at a time.
//
//   cc -O3 -march=native -mprefer-vector-width=512 -ffp-contract=fast -fno-math-errno -pthread kernel.c -o kernel
//   kernel INPUT OUTPUT THREADS REPEATS
//
// A lane is one trial, a vector holds one number of each of V lanes, and a lane's parameters and gradient stay in
// registers or the first-level cache for all its steps. benchmarks/peers.py writes the input, reads the output
// (theta [15, lanes], float32) and holds it against ihtjax; the seconds of each repeat are printed.
//
// INPUT: int32 lanes, steps, rows, and the first row of each class with the end [4]; then float32, lanes last:
// rows X [rows, 4] in the order of their classes, row weights [rows, lanes], mean [4, lanes] and scale [4, lanes] of
// each lane's standardisation, theta0 [15, lanes], step size [lanes], sparsity level [lanes]. Lanes: a multiple of V.

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#ifdef __SSE__
#include <immintrin.h>
#endif
#ifdef __AVX512DQ__
#define V 16
#elif defined(__AVX__)
#define V 8
#else
#define V 4
#endif
#define D 4             // features
#define K 3             // classes
#define N (K * (D + 1)) // parameters: weights, class first, then biases
#define TOGETHER 5      // rows at a time
#define UNROLLED _Pragma("GCC unroll 16")
#define INLINE static inline __attribute__((always_inline))

typedef float vf __attribute__((vector_size(4 * V), aligned(4), may_alias));
typedef int vi __attribute__((vector_size(4 * V), aligned(4), may_alias));

static int lanes, steps, rows, first[K + 1];
static float *X, *weight, *mean, *scale, *theta0, *step_size, *level, *theta;
static float low[K][D], high[K][D]; // smallest and largest value of each feature in each class
static atomic_int next;

INLINE vf all(float a) { return (vf){0} + a; }
INLINE vf pick(vi c, vf a, vf b) { return (vf)(((vi)a & c) | ((vi)b & ~c)); }
INLINE vf max(vf a, vf b) { return pick(a > b, a, b); }
INLINE vf load(const float *p, int i, int lane) { return *(const vf *)(p + (long)i * lanes + lane); }

// 2^t for t <= 126, 0 or nearly so far below; the polynomials are minimax ones of relative error 7.5e-8.
INLINE vf exp2_of(vf t) {
#ifdef __AVX512DQ__
  vf f = (vf)_mm512_reduce_ps((__m512)t, 1); // t - floor(t)
  vf p = f * 1.87757669e-3f + 8.98933969e-3f;
  p = p * f + 5.58263175e-2f;
  p = p * f + 2.40153611e-1f;
  p = p * f + 6.93153083e-1f;
  p = p * f + 9.99999940e-1f;
  return (vf)_mm512_scalef_ps((__m512)p, (__m512)t); // p * 2^floor(t)
#else
  t = max(t, all(-126));
  const vf shift = all(12582912); // adding 1.5 * 2^23 rounds to an integer
  vf r = t + shift, f = t - (r - shift);
  vf p = f * 1.32764725e-3f + 9.67554096e-3f;
  p = p * f + 5.55071309e-2f;
  p = p * f + 2.40221202e-1f;
  p = p * f + 6.93146944e-1f;
  p = p * f + 1.00000012f;
  return (vf)((vi)p + ((vi)r << 23));
#endif
}

// Add `count` rows of one class, a constant, to its gradient: independent rows keep both arithmetic ports busy.
// d: logits of the other classes minus the own one's are x . d, in units of log 2. g: the sum over rows of
// (weight * probability of the other class) * x. Where a logit may exceed 126, `far`, the row's largest logit is
// subtracted first; elsewhere nothing can overflow, and that is left out.
INLINE void add_rows(int count, int i, int lane, vf d[K - 1][D + 1], vf g[K - 1][D + 1], int far) {
  const float *x = X + D * i;
  vf e[TOGETHER][K - 1], total[TOGETHER];
  UNROLLED for (int k = 0; k < K - 1; k++) {
    UNROLLED for (int r = 0; r < count; r++) e[r][k] = d[k][D];
    UNROLLED for (int j = 0; j < D; j++)
      UNROLLED for (int r = 0; r < count; r++) e[r][k] += x[D * r + j] * d[k][j];
  }
  UNROLLED for (int r = 0; r < count; r++) {
    total[r] = all(1);
    if (!far) continue;
    vf top = all(0);
    UNROLLED for (int k = 0; k < K - 1; k++) top = max(e[r][k], top);
    UNROLLED for (int k = 0; k < K - 1; k++) e[r][k] -= top;
    total[r] = exp2_of(-top);
  }
  UNROLLED for (int k = 0; k < K - 1; k++)
    UNROLLED for (int r = 0; r < count; r++) total[r] += e[r][k] = exp2_of(e[r][k]);
  UNROLLED for (int r = 0; r < count; r++) total[r] = load(weight, i + r, lane) / total[r];
  UNROLLED for (int k = 0; k < K - 1; k++)
    UNROLLED for (int r = 0; r < count; r++) {
      vf residual = e[r][k] * total[r];
      UNROLLED for (int j = 0; j < D; j++) g[k][j] += x[D * r + j] * residual;
      g[k][D] += residual;
    }
}

INLINE void add_class(int c, int lane, vf d[K - 1][D + 1], vf g[K - 1][D + 1], int far) {
  int i = first[c];
  for (; i + TOGETHER <= first[c + 1]; i += TOGETHER) add_rows(TOGETHER, i, lane, d, g, far);
  for (; i < first[c + 1]; i++) add_rows(1, i, lane, d, g, far);
}

// Whether a logit of a row of class c may exceed 126 in some lane: bounded over the box that holds these rows.
INLINE int may_overflow(int c, vf d[K - 1][D + 1]) {
  vi over = {0};
  UNROLLED for (int k = 0; k < K - 1; k++) {
    vf bound = d[k][D];
    UNROLLED for (int j = 0; j < D; j++) bound += max(low[c][j] * d[k][j], high[c][j] * d[k][j]);
    over |= ~(bound <= 126.0f); // NaN too
  }
  long long word[sizeof over / 8], any = 0;
  memcpy(word, &over, sizeof over);
  for (unsigned i = 0; i < sizeof over / 8; i++) any |= word[i];
  return any != 0;
}

// All steps of the lanes `lane` .. `lane + V - 1`.
static void run_lanes(int lane) {
  vf w[N], center[D], inverse[D], gamma = load(step_size, 0, lane), s = load(level, 0, lane);
  for (int i = 0; i < N; i++) w[i] = load(theta0, i, lane);
  for (int j = 0; j < D; j++) center[j] = load(mean, j, lane), inverse[j] = 1 / load(scale, j, lane);
  for (int step = 0; step < steps; step++) {
    // The lane's standardisation goes into its weights: u acts on the shared rows.
    vf u[K][D + 1], G[K][D + 1];
    UNROLLED for (int k = 0; k < K; k++) {
      u[k][D] = w[K * D + k];
      UNROLLED for (int j = 0; j < D; j++) {
        u[k][j] = w[D * k + j] * inverse[j];
        u[k][D] -= u[k][j] * center[j];
      }
      UNROLLED for (int j = 0; j <= D; j++) u[k][j] *= 1.44269504f, G[k][j] = all(0);
    }
    UNROLLED for (int c = 0; c < K; c++) {
      vf d[K - 1][D + 1], g[K - 1][D + 1];
      UNROLLED for (int k = 0; k < K - 1; k++)
        UNROLLED for (int j = 0; j <= D; j++) d[k][j] = u[k + (k >= c)][j] - u[c][j], g[k][j] = all(0);
      if (may_overflow(c, d)) add_class(c, lane, d, g, 1);
      else add_class(c, lane, d, g, 0);
      // The residual of the row's own class is minus the sum of the others', so that it doesn't cancel.
      UNROLLED for (int k = 0; k < K - 1; k++)
        UNROLLED for (int j = 0; j <= D; j++) G[k + (k >= c)][j] += g[k][j], G[c][j] -= g[k][j];
    }
    UNROLLED for (int k = 0; k < K; k++) {
      UNROLLED for (int j = 0; j < D; j++)
        w[D * k + j] -= gamma * (G[k][j] - center[j] * G[k][D]) * inverse[j];
      w[K * D + k] -= gamma * G[k][D];
    }
    // H_s: an entry stays if fewer than s entries beat it; among equals the lower index wins.
    vf magnitude[N];
    vi beaten_by[N];
    UNROLLED for (int i = 0; i < N; i++) magnitude[i] = (vf)((vi)w[i] & 0x7fffffff), beaten_by[i] = (vi){0} + i;
    UNROLLED for (int i = 0; i < N; i++)
      UNROLLED for (int j = i + 1; j < N; j++) {
        vi j_wins = magnitude[j] > magnitude[i]; // -1 where true
        beaten_by[i] -= j_wins;
        beaten_by[j] += j_wins;
      }
    vi keep = __builtin_convertvector(s, vi);
    UNROLLED for (int i = 0; i < N; i++) w[i] = (vf)((vi)w[i] & (beaten_by[i] < keep));
  }
  for (int i = 0; i < N; i++) *(vf *)(theta + (long)i * lanes + lane) = w[i];
}

static void *work(void *unused) {
#ifdef __SSE__
  _mm_setcsr(_mm_getcsr() | 0x8040); // subnormal numbers are 0: they would cost a hundred times as much
#endif
  for (int lane; (lane = V * atomic_fetch_add(&next, 1)) < lanes;) run_lanes(lane);
  return unused;
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + 1e-9 * t.tv_nsec;
}

static void *read_array(FILE *file, long count) {
  void *p = aligned_alloc(64, (4 * count + 63) / 64 * 64);
  if (!p || fread(p, 4, count, file) != (size_t)count) fprintf(stderr, "kernel: the input is too short\n"), exit(2);
  return p;
}

int main(int argc, char **argv) {
  FILE *file = argc == 5 ? fopen(argv[1], "rb") : NULL;
  if (!file) return fprintf(stderr, "usage: kernel INPUT OUTPUT THREADS REPEATS\n"), 2;
  int *head = read_array(file, 3 + K + 1);
  lanes = head[0], steps = head[1], rows = head[2];
  memcpy(first, head + 3, sizeof first);
  if (lanes % V) return fprintf(stderr, "kernel: the number of lanes must be a multiple of %d\n", V), 2;
  X = read_array(file, (long)rows * D);
  weight = read_array(file, (long)rows * lanes);
  mean = read_array(file, (long)D * lanes), scale = read_array(file, (long)D * lanes);
  theta0 = read_array(file, (long)N * lanes);
  step_size = read_array(file, lanes), level = read_array(file, lanes);
  theta = aligned_alloc(64, 4L * N * lanes);
  fclose(file);
  for (int c = 0; c < K; c++)
    for (int j = 0; j < D; j++) {
      low[c][j] = high[c][j] = X[D * first[c] + j];
      for (int i = first[c]; i < first[c + 1]; i++) {
        if (X[D * i + j] < low[c][j]) low[c][j] = X[D * i + j];
        if (X[D * i + j] > high[c][j]) high[c][j] = X[D * i + j];
      }
    }
  int threads = atoi(argv[3]), repeats = atoi(argv[4]);
  pthread_t *pool = malloc(threads * sizeof *pool);
  for (int r = 0; r < repeats; r++) {
    double began = now();
    atomic_store(&next, 0);
    for (int t = 0; t < threads; t++) pthread_create(&pool[t], NULL, work, NULL);
    for (int t = 0; t < threads; t++) pthread_join(pool[t], NULL);
    printf("%.9f\n", now() - began);
  }
  file = fopen(argv[2], "wb");
  if (!file || fwrite(theta, 4, (long)N * lanes, file) != (size_t)N * lanes || fclose(file))
    return fprintf(stderr, "kernel: cannot write %s\n", argv[2]), 2;
  return 0;
}
