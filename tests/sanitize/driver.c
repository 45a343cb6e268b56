/* Calls every function of fused.c with odd sizes, and compares with the same operation written plainly in double.
 *
 * Each array ends where its memory ends, so that a sanitizer sees the first element past it. Include path and macros
 * are those of the builds in __main__.py; a new function needs a check and a line in CHECKS.
 */
#include "fused.c"

#include <stdio.h>
#include <stdlib.h>

typedef __typeof__(narrow(0)) element; /* bfloat16 or float32 */

static const long ROWS[] = {1, 2, 3, 7}, WIDTHS[] = {1, 7, 31, 33, 128};
static const float EPS = 1e-5f;

static long failures;
static const char *function;
static long rows, width;

/* Arrays of one check. */
static void *kept[16];
static int arrays;

static void *memory(size_t bytes) { return kept[arrays++] = malloc(bytes); }

static void forget(void) {
    while (arrays) free(kept[--arrays]);
}

/* Between -2 and 2, with zeros; the same in every run. */
static float number_of(long index) {
    static uint32_t state = 1;
    state = state * 1664525u + 1013904223u;
    return index % 11 == 5 ? 0 : (float)(state >> 8) / (1 << 22) - 2;
}

static element *elements(long count) {
    element *array = memory(count * sizeof *array);
    for (long i = 0; i < count; i++) array[i] = narrow(number_of(i));
    return array;
}

static float *floats(long count) {
    float *array = memory(count * sizeof *array);
    for (long i = 0; i < count; i++) array[i] = number_of(i);
    return array;
}

static element *copy(const element *array, long count) {
    return memcpy(memory(count * sizeof *array), array, count * sizeof *array);
}

/* Both are of about the size `scale`: rounding is in proportion to that. */
static void expect(double found, double wanted, double scale) {
    double tolerance = sizeof(element) == 2 ? 1.0 / 64 : 1e-5;
    if (fabs(found - wanted) > tolerance * (scale + fabs(wanted))) {
        if (failures++ < 20)
            printf("%s, %ld x %ld: %.9g instead of %.9g\n", function, rows, width, found, wanted);
    }
}

static double inverse_of(const element *row, long size) {
    double sum = 0;
    for (long i = 0; i < size; i++) sum += (double)wide(row[i]) * wide(row[i]);
    return 1 / sqrt(sum / size + EPS);
}

static double open_gate(double x) { return 1 / (1 + exp(-x)); }

static void check_rms_norm(void) {
    element *hidden = elements(rows * width), *weight = elements(width), *output = elements(rows * width);
    rms_norm(hidden, weight, output, rows, width, EPS);
    for (long r = 0; r < rows; r++)
        for (long i = 0; i < width; i++) {
            double normed = wide(hidden[r * width + i]) * inverse_of(hidden + r * width, width);
            expect(wide(output[r * width + i]), normed * wide(weight[i]), 1);
        }
}

static void check_rms_norm_gradient(void) {
    for (int added = 0; added < 2; added++) {
        long size = rows * width;
        element *grad = elements(size), *hidden = elements(size), *weight = elements(width);
        element *residual = added ? elements(size) : NULL, *output = elements(size);
        rms_norm_gradient(grad, hidden, weight, residual, output, rows, width, EPS);
        for (long r = 0; r < rows; r++) {
            double inverse = inverse_of(hidden + r * width, width), along = 0;
            for (long i = 0; i < width; i++)
                along += (double)wide(grad[r * width + i]) * wide(weight[i]) * wide(hidden[r * width + i]);
            for (long i = r * width; i < (r + 1) * width; i++) {
                double scaled = (double)wide(grad[i]) * wide(weight[i - r * width]);
                double rest = along * inverse * inverse / width * wide(hidden[i]);
                double wanted = (scaled - rest) * inverse + (added ? wide(residual[i]) : 0);
                expect(wide(output[i]), wanted, 4 * inverse * (fabs(scaled) + fabs(rest)) + 1);
            }
        }
        forget();
    }
}

static void check_gated(void) {
    long size = rows * width;
    element *gate = elements(size), *up = elements(size), *output = elements(size);
    gate[0] = narrow(100), gate[size - 1] = narrow(-200); /* far outside exp's range */
    gated(gate, up, output, size);
    for (long i = 0; i < size; i++)
        expect(wide(output[i]), wide(gate[i]) * open_gate(wide(gate[i])) * wide(up[i]), 1);
}

static void check_gated_gradients(void) {
    long size = rows * width;
    element *grad = elements(size), *gate = elements(size), *up = elements(size), *to_up = elements(size);
    element *before = copy(grad, size);
    gated_gradients(grad, gate, up, to_up, size);
    for (long i = 0; i < size; i++) {
        double x = wide(gate[i]), open = open_gate(x);
        expect(wide(to_up[i]), wide(before[i]) * x * open, 1);
        expect(wide(grad[i]), wide(before[i]) * wide(up[i]) * open * (1 + x * (1 - open)), 1);
    }
}

static void check_rotate(void) {
    long heads = 3, even = 2 * width, half = width;
    element *vectors = elements(rows * heads * even), *output = elements(rows * heads * even);
    element *cosines = elements(rows * even), *sines = elements(rows * even);
    for (int direction = -1; direction < 2; direction += 2) {
        rotate(vectors, cosines, sines, output, rows, heads, even, direction);
        for (long r = 0; r < rows; r++)
            for (long h = 0; h < heads; h++)
                for (long i = 0; i < half; i++) {
                    long at = (r * heads + h) * even + i;
                    double first = wide(vectors[at]), second = wide(vectors[at + half]);
                    double cosine = wide(cosines[r * even + i]), sine = direction * wide(sines[r * even + i]);
                    expect(wide(output[at]), first * cosine - second * sine, 4);
                    expect(wide(output[at + half]), second * cosine + first * sine, 4);
                }
    }
}

/* Forth and back, with `rows` tokens of three heads in each of two groups. */
static void check_groups(void) {
    long groups = 2, row = groups * 3 * width, padded = rows + 2, together = row / groups;
    element *tokens = elements(rows * row), *piece = elements(padded * row), *back = elements(rows * row);
    gather_groups(tokens, piece, rows, padded, groups, row);
    scatter_groups(piece, back, rows, padded, groups, row);
    for (long t = 0; t < padded; t++)
        for (long g = 0; g < groups; g++)
            for (long i = 0; i < together; i++) {
                double wanted = t < rows ? wide(tokens[t * row + g * together + i]) : 0;
                expect(wide(piece[(g * padded + t) * together + i]), wanted, 0);
            }
    for (long i = 0; i < rows * row; i++) expect(wide(back[i]), wide(tokens[i]), 0);
}

/* `width` keys; the last `rows` of them (all, where there are fewer) are of the queries. */
static void check_causal_softmax(void) {
    long groups = 2, heads = 3, queries = rows < width ? rows : width, first = width - queries;
    long all = groups * queries * heads;
    element *scores = elements(all * width), *before = copy(scores, all * width);
    causal_softmax(scores, groups, queries * heads, width, first, heads, 0.5f);
    for (long r = 0; r < all; r++) {
        long seen = first + r % (queries * heads) / heads + 1;
        double sum = 0;
        for (long i = 0; i < seen; i++) sum += exp(0.5 * wide(before[r * width + i]));
        for (long i = 0; i < width; i++)
            expect(wide(scores[r * width + i]), i < seen ? exp(0.5 * wide(before[r * width + i])) / sum : 0, 0.1);
    }
}

static void check_softmax_gradient(void) {
    element *grad = elements(rows * width), *row = elements(rows * width), *before = copy(grad, rows * width);
    softmax_gradient(grad, row, rows, width, 0.5f);
    for (long r = 0; r < rows; r++) {
        double along = 0, size = 0;
        for (long i = r * width; i < (r + 1) * width; i++) {
            along += (double)wide(before[i]) * wide(row[i]);
            size += fabs((double)wide(before[i]) * wide(row[i]));
        }
        for (long i = r * width; i < (r + 1) * width; i++)
            expect(wide(grad[i]), wide(row[i]) * (wide(before[i]) - along) * 0.5, 1 + size);
    }
}

static void check_quantize(void) {
    /* As they are, all zero, and so small that 127 over them is no float. */
    static const float SIZES[] = {1, 0, 1e-38f, 1e-42f};
    for (int factors = 0; factors < 2; factors++)
        for (int size = 0; size < 4; size++) {
            element *input = elements(rows * width);
            float *columns = factors ? floats(width) : NULL, *scales = floats(rows);
            int8_t *output = memory(rows * width);
            for (long i = 0; i < rows * width; i++) input[i] = narrow(wide(input[i]) * SIZES[size]);
            quantize(input, columns, output, scales, rows, width);
            for (long i = 0; i < rows * width; i++) {
                double wanted = (double)wide(input[i]) * (columns ? columns[i % width] : 1);
                if (SIZES[size] == 1) expect(output[i] * (double)scales[i / width], wanted, 4 / 127.0 / 1e-5);
                if (fabs(output[i] * (double)scales[i / width] - wanted) > scales[i / width] * 0.51 + 1e-36)
                    expect(output[i], wanted / scales[i / width], 0);
            }
            forget();
        }
}

static void check_dequantize(void) {
    for (int given = 0; given < 4; given++) {
        long size = rows * width;
        int32_t *sums = memory(size * sizeof *sums);
        float *scales = floats(rows), *columns = given & 1 ? floats(width) : NULL;
        element *residual = given & 2 ? elements(size) : NULL, *output = elements(size);
        for (long i = 0; i < size; i++) sums[i] = (int32_t)(number_of(i) * 1e9f);
        dequantize(sums, scales, columns, residual, output, rows, width);
        for (long i = 0; i < size; i++) {
            double scale = (double)scales[i / width] * (columns ? columns[i % width] : 1);
            expect(wide(output[i]), sums[i] * scale + (residual ? wide(residual[i]) : 0), 1);
        }
        forget();
    }
}

static void check_dequantize_weights(void) {
    long size = rows * width;
    int8_t *values = memory(size);
    float *scales = floats(rows);
    element *output = elements(size);
    for (long i = 0; i < size; i++) values[i] = (int8_t)(number_of(i) * 63);
    dequantize_weights(values, scales, output, rows, width);
    for (long i = 0; i < size; i++) expect(wide(output[i]), values[i] * (double)scales[i / width], 1);
}

static const struct {
    const char *functions;
    void (*check)(void);
} CHECKS[] = {
    {"rms_norm", check_rms_norm},
    {"rms_norm_gradient", check_rms_norm_gradient},
    {"gated", check_gated},
    {"gated_gradients", check_gated_gradients},
    {"rotate", check_rotate},
    {"gather_groups scatter_groups", check_groups},
    {"causal_softmax", check_causal_softmax},
    {"softmax_gradient", check_softmax_gradient},
    {"quantize", check_quantize},
    {"dequantize", check_dequantize},
    {"dequantize_weights", check_dequantize_weights},
};

int main(void) {
    for (size_t c = 0; c < sizeof CHECKS / sizeof *CHECKS; c++)
        for (size_t r = 0; r < sizeof ROWS / sizeof *ROWS; r++)
            for (size_t w = 0; w < sizeof WIDTHS / sizeof *WIDTHS; w++) {
                function = CHECKS[c].functions, rows = ROWS[r], width = WIDTHS[w];
                CHECKS[c].check();
                forget();
            }
    return failures > 0;
}
