/* fused.c, and causal attention by AMX tiles, for bfloat16 on CPUs that have them.
 *
 * A tile holds 16 rows of 64 bytes. One instruction adds the product of a tile of 16 x 32 numbers and one of 32 x 16 to
 * a tile of 16 x 16 floats. The second has its rows in pairs: each of its 32-bit words is a number of an even row and
 * the one below it. All operands are packed tile by tile, 1024 bytes each, padded with zeros.
 *
 * Scores of ROWS queries and all keys that they see are in memory at once, as floats, small enough for a core's cache.
 * Threads share the pairs of a segment and a head.
 */
#include "fused.c"

#if defined(BFLOAT16) && defined(__AMX_BF16__) && defined(__linux__)
#include <immintrin.h>
#include <omp.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { TILE = 16, PAIRS = 32, ROWS = 64, TILE_NUMBERS = TILE * PAIRS };
typedef uint32_t __attribute__((may_alias)) word; /* two numbers */
enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 }; /* of arch_prctl: Linux's x86/xstate documentation */

/* Whether this process may use tiles. */
int tiles_ready(void) { return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0; }

typedef struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_config;

/* Configure this thread's tiles; returns what was there, to be restored: PyTorch's library keeps its own. */
static tile_config configure(void) {
    tile_config before, all = {.palette = 1};
    for (int i = 0; i < 8; i++) all.row_bytes[i] = 64, all.rows[i] = TILE;
    _tile_storeconfig(&before);
    _tile_loadconfig(&all);
    return before;
}

static void restore(const tile_config *before) {
    if (before->palette)
        _tile_loadconfig(before);
    else
        _tile_release();
}

/* sums (+)= left right.
 *
 * left: (rows of tiles, depth), right: (depth, right_columns) tiles of which the first `columns` are used; both counts
 * of result tiles are even. sums: floats in rows of `stride`.
 */
static void multiply(const number *left, const number *right, float *sums, long rows, long columns, long depth,
                     long right_columns, long stride, int add) {
    for (long i = 0; i < rows; i += 2)
        for (long j = 0; j < columns; j += 2) {
            float *corner = sums + (i * stride + j) * TILE, *below = corner + TILE * stride;
            if (add) {
                _tile_loadd(0, corner, stride * 4);
                _tile_loadd(1, corner + TILE, stride * 4);
                _tile_loadd(2, below, stride * 4);
                _tile_loadd(3, below + TILE, stride * 4);
            } else {
                _tile_zero(0);
                _tile_zero(1);
                _tile_zero(2);
                _tile_zero(3);
            }
            for (long k = 0; k < depth; k++) {
                const number *a = left + (i * depth + k) * TILE_NUMBERS;
                const number *b = right + (k * right_columns + j) * TILE_NUMBERS;
                _tile_loadd(4, a, 64);
                _tile_loadd(5, a + depth * TILE_NUMBERS, 64);
                _tile_loadd(6, b, 64);
                _tile_loadd(7, b + TILE_NUMBERS, 64);
                _tile_dpbf16ps(0, 4, 6);
                _tile_dpbf16ps(1, 4, 7);
                _tile_dpbf16ps(2, 5, 6);
                _tile_dpbf16ps(3, 5, 7);
            }
            _tile_stored(0, corner, stride * 4);
            _tile_stored(1, corner + TILE, stride * 4);
            _tile_stored(2, below, stride * 4);
            _tile_stored(3, below + TILE, stride * 4);
        }
}

/* In the packers, `rows` rows of `width` numbers stand `stride` numbers apart; the padded number of rows is that of
 * whole tiles, and `width` is a multiple of 32. */

/* X as a left operand: (padded / 16, width / 32) tiles. */
static void pack_left(const number *x, number *packed, long rows, long padded, long width, long stride) {
    for (long r = 0; r < padded; r++)
        for (long k = 0; k < width / PAIRS; k++) {
            number *line = packed + ((r / TILE * (width / PAIRS) + k) * TILE + r % TILE) * PAIRS;
            if (r < rows)
                memcpy(line, x + r * stride + k * PAIRS, 64);
            else
                memset(line, 0, 64);
        }
}

/* The transpose of a tile of 16 x 16 words, whose rows begin `stride` words apart. */
static inline void transpose(const word *from, word *to, long stride) {
    for (long r = 0; r < TILE; r++)
#pragma omp simd
        for (long c = 0; c < TILE; c++) to[r * TILE + c] = from[c * stride + r];
}

/* X as a right operand: (padded / 32, width / 16) tiles. */
static void pack_right(const number *x, word *packed, long rows, long padded, long width, long stride) {
    for (long r = 0; r < padded; r += 2)
        for (long c = 0; c < width; c += TILE) {
            word *line = packed + ((r / PAIRS * (width / TILE) + c / TILE) * TILE + r % PAIRS / 2) * TILE;
            const number *even = x + r * stride + c, *odd = even + stride;
            if (r + 1 < rows)
#pragma omp simd
                for (long i = 0; i < TILE; i++) line[i] = even[i] | (word)odd[i] << 16;
            else
                for (long i = 0; i < TILE; i++) line[i] = r < rows ? even[i] : 0;
        }
}

/* The transpose of X as a left operand, (width / 16, padded / 32) tiles, from X as a right operand. */
static void transpose_right(const word *right, word *packed, long padded, long width) {
    for (long k = 0; k < padded / PAIRS; k++)
        for (long c = 0; c < width / TILE; c++)
            transpose(right + (k * (width / TILE) + c) * TILE * TILE, packed + (c * (padded / PAIRS) + k) * TILE * TILE,
                      TILE);
}

/* The transpose of X as a right operand: (width / 32, padded / 16) tiles. */
static void pack_right_transposed(const number *x, word *packed, long rows, long padded, long width, long stride) {
    for (long c = 0; c < width; c += PAIRS)
        for (long r = 0; r < padded; r += TILE) {
            word *tile = packed + (c / PAIRS * (padded / TILE) + r / TILE) * TILE * TILE;
            const number *corner = x + r * stride + c;
            if (r + TILE <= rows) {
                transpose((const word *)corner, tile, stride / 2);
                continue;
            }
            number rest[TILE * PAIRS] = {0};
            for (long i = 0; r + i < rows; i++) memcpy(rest + i * PAIRS, corner + i * stride, 64);
            transpose((const word *)rest, tile, TILE);
        }
}

static inline word pair_of(float even, float odd) { return narrow(even) | (word)narrow(odd) << 16; }

static long padded_to(long number_of, long multiple) { return (number_of + multiple - 1) / multiple * multiple; }

static long smaller(long a, long b) { return a < b ? a : b; }

/* The visible scores rounded up to whole vectors, those after them so low that their exponential vanishes. */
static inline long hide_rest(float *scores, long visible) {
    long whole = padded_to(visible, TILE);
    for (long i = visible; i < whole; i++) scores[i] = -1e30f;
    return whole;
}

/* Memory of one thread, handed out from the front. */
typedef struct {
    char *next;
} arena;

static void *take(arena *memory, long bytes) {
    void *here = memory->next;
    memory->next += padded_to(bytes, 64);
    return here;
}

/* Bytes that one thread needs, at most, for segments of `longest` tokens and heads of `width` numbers. */
long tile_attention_memory(long longest, long width) {
    long keys = padded_to(longest, ROWS);
    long operands = 6 * ROWS * width * 2 + 3 * keys * width * 2 + 3 * ROWS * keys * 2;
    return padded_to(operands + (2 * (ROWS + width) * (keys + TILE) + ROWS * width) * 4, 64);
}

/* queries, output: (tokens, heads, width); keys, values: (tokens, groups, width).
 * starts: (segments + 1). log_sums: (heads, tokens), the logarithm of each query's sum of exponentials.
 * memory: `each` bytes, those of tile_attention_memory, for each of `threads`, aligned to 64 bytes. */
void tile_attention(const number *queries, const number *keys, const number *values, number *output, float *log_sums,
                    const int64_t *starts, char *memory, long each, long threads, long segments, long tokens, long heads,
                    long groups, long width, float scaling) {
#pragma omp parallel num_threads(threads)
    {
        tile_config before = configure();
        arena all = {memory + omp_get_thread_num() * each};
#pragma omp for collapse(2) schedule(dynamic)
        for (long s = 0; s < segments; s++)
            for (long h = 0; h < heads; h++) {
                arena own = all;
                long start = starts[s], length = starts[s + 1] - start, padded = padded_to(length, PAIRS);
                long row = heads * width, key_row = groups * width, head_of_group = h / (heads / groups);
                long first_key = start * key_row + head_of_group * width, stride = padded + TILE;
                word *packed_keys = take(&own, padded * width * 2), *packed_values = take(&own, padded * width * 2);
                number *rows = take(&own, ROWS * width * 2), *shares = take(&own, ROWS * padded * 2);
                float *scores = take(&own, ROWS * stride * 4), *sums = take(&own, ROWS * width * 4);
                pack_right_transposed(keys + first_key, packed_keys, length, padded, width, key_row);
                pack_right(values + first_key, packed_values, length, padded, width, key_row);
                for (long first = 0; first < length; first += ROWS) {
                    long count = smaller(ROWS, length - first), filled = padded_to(count, PAIRS);
                    long seen = padded_to(first + count, PAIRS), chunks = seen / PAIRS;
                    const number *block = queries + (start + first) * row + h * width;
                    pack_left(block, rows, count, filled, width, row);
                    multiply(rows, (number *)packed_keys, scores, filled / TILE, seen / TILE, width / PAIRS,
                             padded / TILE, stride, 0);
                    float inverse[ROWS];
                    for (long r = 0; r < filled; r++) {
                        float *score = scores + r * stride, largest = -INFINITY, sum = 0;
                        long visible = r < count ? first + r + 1 : 0, whole = hide_rest(score, visible);
                        for (long i = 0; i < whole; i++) largest = fmaxf(largest, score[i]);
                        float shift = largest * scaling;
#pragma omp simd reduction(+ : sum)
                        for (long i = 0; i < whole; i++) sum += score[i] = exponential(score[i] * scaling - shift);
                        memset(score + visible, 0, (seen - visible) * sizeof *score);
                        inverse[r] = visible ? 1 / sum : 0;
                        if (visible) log_sums[h * tokens + start + first + r] = logf(sum) + shift;
                        number *line = shares + (r / TILE * chunks * TILE + r % TILE) * PAIRS;
                        for (long k = 0; k < chunks; k++)
#pragma omp simd
                            for (long i = 0; i < PAIRS; i++)
                                line[k * TILE_NUMBERS + i] = narrow(score[k * PAIRS + i]);
                    }
                    multiply(shares, (number *)packed_values, sums, filled / TILE, width / TILE, chunks, width / TILE,
                             width, 0);
                    for (long r = 0; r < count; r++) {
                        number *out = output + (start + first + r) * row + h * width;
#pragma omp simd
                        for (long i = 0; i < width; i++) out[i] = narrow(sums[r * width + i] * inverse[r]);
                    }
                }
            }
        restore(&before);
    }
}

/* Write the transpose of (width, stride) floats as `length` rows of `width` numbers, `row` numbers apart. */
static void write_transposed(const float *sums, number *output, long length, long width, long stride, long row) {
    for (long r = 0; r < length; r++)
#pragma omp simd
        for (long c = 0; c < width; c++) output[r * row + c] = narrow(sums[c * stride + r]);
}

/* The gradients; all but keys and values are (tokens, heads, width), so those of keys and values are of each head. */
void tile_attention_gradient(const number *gradient, const number *queries, const number *keys, const number *values,
                             const float *log_sums, number *to_queries, number *to_keys, number *to_values,
                             const int64_t *starts, char *memory, long each, long threads, long segments, long tokens, long heads,
                             long groups, long width, float scaling) {
#pragma omp parallel num_threads(threads)
    {
        tile_config before = configure();
        arena all = {memory + omp_get_thread_num() * each};
#pragma omp for collapse(2) schedule(dynamic)
        for (long s = 0; s < segments; s++)
            for (long h = 0; h < heads; h++) {
                arena own = all;
                long start = starts[s], length = starts[s + 1] - start, padded = padded_to(length, PAIRS);
                long row = heads * width, key_row = groups * width, head_of_group = h / (heads / groups);
                long first_key = start * key_row + head_of_group * width, stride = padded + TILE;
                word *keys_transposed = take(&own, padded * width * 2), *packed_keys = take(&own, padded * width * 2);
                word *values_transposed = take(&own, padded * width * 2);
                number *rows = take(&own, ROWS * width * 2), *grads = take(&own, ROWS * width * 2);
                word *pairs = take(&own, ROWS * width * 2);
                word *rows_transposed = take(&own, ROWS * width * 2), *grads_transposed = take(&own, ROWS * width * 2);
                number *left = take(&own, ROWS * padded * 2); /* the gradient of the scores as a left operand */
                word *right = take(&own, ROWS * padded * 2), *shares = take(&own, ROWS * padded * 2);
                float *scores = take(&own, ROWS * stride * 4), *to_shares = take(&own, ROWS * stride * 4);
                float *sums = take(&own, ROWS * width * 4);
                float *to_key = take(&own, width * stride * 4), *to_value = take(&own, width * stride * 4);
                pack_right_transposed(keys + first_key, keys_transposed, length, padded, width, key_row);
                pack_right(keys + first_key, packed_keys, length, padded, width, key_row);
                pack_right_transposed(values + first_key, values_transposed, length, padded, width, key_row);
                memset(to_key, 0, width * stride * 4);
                memset(to_value, 0, width * stride * 4);
                for (long first = 0; first < length; first += ROWS) {
                    long count = smaller(ROWS, length - first), filled = padded_to(count, PAIRS);
                    long seen = padded_to(first + count, PAIRS), chunks = seen / PAIRS, tiles = seen / TILE;
                    const number *block = queries + (start + first) * row + h * width;
                    const number *grad = gradient + (start + first) * row + h * width;
                    pack_left(block, rows, count, filled, width, row);
                    pack_left(grad, grads, count, filled, width, row);
                    pack_right(block, pairs, count, filled, width, row);
                    transpose_right(pairs, rows_transposed, filled, width);
                    pack_right(grad, pairs, count, filled, width, row);
                    transpose_right(pairs, grads_transposed, filled, width);
                    multiply(rows, (number *)keys_transposed, scores, filled / TILE, tiles, width / PAIRS,
                             padded / TILE, stride, 0);
                    multiply(grads, (number *)values_transposed, to_shares, filled / TILE, tiles, width / PAIRS,
                             padded / TILE, stride, 0);
                    for (long r = 0; r < filled; r++) {
                        float *score = scores + r * stride, *to_share = to_shares + r * stride, along = 0;
                        long visible = r < count ? first + r + 1 : 0, whole = hide_rest(score, visible);
                        float shift = visible ? log_sums[h * tokens + start + first + r] : 0;
#pragma omp simd reduction(+ : along)
                        for (long i = 0; i < whole; i++) {
                            score[i] = exponential(score[i] * scaling - shift);
                            along += score[i] * to_share[i];
                        }
                        memset(score + visible, 0, (seen - visible) * sizeof *score);
                        memset(to_share + visible, 0, (seen - visible) * sizeof *to_share);
                        number *line = left + (r / TILE * chunks * TILE + r % TILE) * PAIRS;
                        for (long k = 0; k < chunks; k++)
#pragma omp simd
                            for (long i = 0; i < PAIRS; i++) {
                                long at = k * PAIRS + i;
                                to_share[at] = score[at] * (to_share[at] - along) * scaling;
                                line[k * TILE_NUMBERS + i] = narrow(to_share[at]);
                            }
                    }
                    for (long r = 0; r < filled; r += 2) {
                        const float *score = scores + r * stride, *to_share = to_shares + r * stride;
                        long line = (r / PAIRS * tiles * TILE + r % PAIRS / 2) * TILE;
                        for (long k = 0; k < tiles; k++)
#pragma omp simd
                            for (long i = 0; i < TILE; i++) {
                                long at = k * TILE + i, to = line + k * TILE * TILE + i;
                                shares[to] = pair_of(score[at], score[stride + at]);
                                right[to] = pair_of(to_share[at], to_share[stride + at]);
                            }
                    }
                    multiply(left, (number *)packed_keys, sums, filled / TILE, width / TILE, chunks, width / TILE, width,
                             0);
                    for (long r = 0; r < count; r++) {
                        number *out = to_queries + (start + first + r) * row + h * width;
#pragma omp simd
                        for (long i = 0; i < width; i++) out[i] = narrow(sums[r * width + i]);
                    }
                    multiply((number *)rows_transposed, (number *)right, to_key, width / TILE, tiles, filled / PAIRS, tiles,
                             stride, 1);
                    multiply((number *)grads_transposed, (number *)shares, to_value, width / TILE, tiles, filled / PAIRS, tiles,
                             stride, 1);
                }
                write_transposed(to_key, to_keys + start * row + h * width, length, width, stride, row);
                write_transposed(to_value, to_values + start * row + h * width, length, width, stride, row);
            }
        restore(&before);
    }
}

/* From (tokens, groups, heads, width) to (tokens, groups, width): the sum over a group's heads. rows: tokens x groups. */
void sum_heads(const number *parts, number *sums, long rows, long heads, long width) {
#pragma omp parallel for
    for (long r = 0; r < rows; r++)
#pragma omp simd
        for (long i = 0; i < width; i++) {
            float sum = 0;
            for (long h = 0; h < heads; h++) sum += wide(parts[(r * heads + h) * width + i]);
            sums[r * width + i] = narrow(sum);
        }
}
#endif
